"""Bridges from the price APIs of clouds to the contract that sources of type Http speak. Examples, to be adapted.

Each is a pure function from what an API answers, as it answers it, to rows (see `stint.feeds.rows`). None of them holds
credentials: whoever has them fetches, and hands over files.

    aws pricing get-products --region us-east-1 --service-code AmazonEC2 --filters ... > ec2.json
    aws ec2 describe-spot-price-history --instance-types p5.48xlarge --product-descriptions Linux/UNIX > spot.json
    curl 'https://prices.azure.com/api/retail/prices?$filter=serviceName eq ...' > azure.json
    curl "https://cloudbilling.googleapis.com/v1/services/6F81-5844-456A/skus?key=$KEY" > gcp.json

    python -m hack.bridges aws ec2.json > prices.json           the rows, for a ConfigMap or a web server
    python -m hack.bridges --serve 8099 aws-spot spot.json      the same over HTTP, read afresh for each request
"""
