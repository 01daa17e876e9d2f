// The network of a kind node that is made of packages: it does what kind's own kindnetd does, which no Go module proxy
// has. It tells containerd which addresses this node's pods get, keeps routes to the other nodes' pods, hides pods
// behind the node's address where they leave the cluster, and enforces network policies.
//
// Everything is worked out anew whenever something changes, by one pure function, and loaded in one transaction.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

const (
	settle = 100 * time.Millisecond // changes come in bursts
	resync = 30 * time.Second       // routes and rules that somebody else removed come back
)

func main() {
	clusterCIDR := flag.String("cluster-cidr", "10.244.0.0/16", "addresses of all pods")
	cniDir := flag.String("cni-dir", "/etc/cni/net.d", "where containerd looks for its network")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer cancel()
	config, err := rest.InClusterConfig()
	if err != nil {
		log.Fatal(err)
	}
	// Until kube-proxy runs nobody answers at the service's address: a dial that waits long only delays the node.
	config.Dial = (&net.Dialer{Timeout: time.Second, KeepAlive: 30 * time.Second}).DialContext
	run(ctx, kubernetes.NewForConfigOrDie(config), os.Getenv("NODE_NAME"), *clusterCIDR, *cniDir)
}

func run(ctx context.Context, client kubernetes.Interface, node, clusterCIDR, cniDir string) {
	factory := informers.NewSharedInformerFactory(client, 0)
	core, network := factory.Core().V1(), factory.Networking().V1()
	nodes, pods, namespaces, policies := core.Nodes(), core.Pods(), core.Namespaces(), network.NetworkPolicies()
	changed := make(chan struct{}, 1)
	knock := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { knock() },
		UpdateFunc: func(any, any) { knock() },
		DeleteFunc: func(any) { knock() },
	}
	for _, informer := range []cache.SharedIndexInformer{
		nodes.Informer(), pods.Informer(), namespaces.Informer(), policies.Informer(),
	} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			log.Fatal(err)
		}
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	var loaded string
	var last time.Time
	for {
		in := Input{Node: node, ClusterCIDR: clusterCIDR}
		in.Nodes, _ = nodes.Lister().List(labels.Everything())
		in.Pods, _ = pods.Lister().List(labels.Everything())
		in.Namespaces, _ = namespaces.Lister().List(labels.Everything())
		in.Policies, _ = policies.Lister().List(labels.Everything())
		if err := apply(in, cniDir, &loaded, time.Since(last) > resync); err != nil {
			log.Print(err)
			loaded = ""
			time.AfterFunc(time.Second, knock)
		}
		if time.Since(last) > resync {
			last = time.Now()
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
			time.Sleep(settle)
		case <-time.After(resync):
		}
	}
}

func apply(in Input, cniDir string, loaded *string, again bool) error {
	own := in.podCIDR()
	if own == "" {
		return fmt.Errorf("node %s has no addresses for its pods yet", in.Node)
	}
	if rules := Render(in); rules != *loaded || again {
		nft := exec.Command("nft", "-f", "-")
		nft.Stdin = strings.NewReader(rules)
		if out, err := nft.CombinedOutput(); err != nil {
			return fmt.Errorf("nft: %w: %s", err, out)
		}
		if rules != *loaded {
			log.Printf("loaded %d lines of rules", strings.Count(rules, "\n"))
		}
		*loaded = rules
	}
	if err := route(in); err != nil {
		return err
	}
	return writeCNI(cniDir, own)
}

// route sees to a route to each other node's pods, and removes those of nodes that are gone.
func route(in Input) error {
	wanted := map[string]net.IP{}
	for _, n := range in.Nodes {
		if via := net.ParseIP(internalIP(n)); n.Name != in.Node && n.Spec.PodCIDR != "" && via != nil {
			wanted[n.Spec.PodCIDR] = via
		}
	}
	_, cluster, err := net.ParseCIDR(in.ClusterCIDR)
	if err != nil {
		return err
	}
	for cidr, via := range wanted {
		_, to, err := net.ParseCIDR(cidr)
		if err != nil {
			return err
		}
		// A node that is not of this network, such as one that only pretends to be there, has no route, and needs none.
		if err := netlink.RouteReplace(&netlink.Route{Dst: to, Gw: via}); err != nil {
			delete(wanted, cidr)
		}
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	for _, r := range routes {
		if r.Dst == nil || r.Gw == nil || !cluster.Contains(r.Dst.IP) {
			continue
		}
		if _, ok := wanted[r.Dst.String()]; !ok {
			log.Printf("no route to %s any more", r.Dst)
			if err := netlink.RouteDel(&r); err != nil {
				return err
			}
		}
	}
	return nil
}

func writeCNI(dir, podCIDR string) error {
	list := fmt.Sprintf(`{
  "cniVersion": "1.0.0",
  "name": "kindnet",
  "plugins": [
    {"type": "ptp", "ipMasq": false, "mtu": %d, "ipam": {
      "type": "host-local", "dataDir": "/run/cni-ipam-state",
      "routes": [{"dst": "0.0.0.0/0"}], "ranges": [[{"subnet": %q}]]}},
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
`, mtu(), podCIDR)
	target := filepath.Join(dir, "10-kind.conflist")
	if there, err := os.ReadFile(target); err == nil && string(there) == list {
		return nil
	}
	part := target + ".part"
	if err := os.WriteFile(part, []byte(list), 0o644); err != nil {
		return err
	}
	return os.Rename(part, target)
}

// mtu is that of the way out; 0 leaves it to the kernel.
func mtu() int {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return 0
	}
	for _, r := range routes {
		if r.Dst == nil || r.Dst.IP.IsUnspecified() {
			if link, err := netlink.LinkByIndex(r.LinkIndex); err == nil {
				return link.Attrs().MTU
			}
		}
	}
	return 0
}

func internalIP(node *corev1.Node) string {
	for _, address := range node.Status.Addresses {
		if address.Type == corev1.NodeInternalIP {
			return address.Address
		}
	}
	return ""
}
