package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

const tableName = "nodenet"

// Input is all that the rules of one node depend on.
type Input struct {
	NodeName    string
	PodCIDR     string
	ClusterCIDR string
	Nodes       []*corev1.Node
	Pods        []*corev1.Pod
	Namespaces  []*corev1.Namespace
	Policies    []*networkingv1.NetworkPolicy
}

// endpoint is a pod that has an address of its own on the pod network.
type endpoint struct {
	ip        netip.Addr
	namespace string
	name      string
	local     bool
	labels    labels.Set
	ports     []corev1.ContainerPort
}

// portSpan is an inclusive range of ports.
type portSpan struct{ from, to int32 }

// portMatch is what one protocol's share of a rule's ports comes to.
type portMatch struct {
	protocol corev1.Protocol
	all      bool
	spans    []portSpan
}

// protocols fixes the order in which rules are written.
var protocols = []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}

type renderer struct {
	endpoints  []endpoint
	namespaces map[string]labels.Set
	sets       map[string][]netip.Addr
}

// Render returns the nft script for one node. The table is created, deleted
// and created again, so that a single nft run replaces it in one transaction
// whether or not it was there before.
func Render(in Input) string {
	r := &renderer{
		endpoints:  endpoints(in.Pods, in.NodeName),
		namespaces: map[string]labels.Set{},
		sets:       map[string][]netip.Addr{},
	}
	for _, ns := range in.Namespaces {
		r.namespaces[ns.Name] = ns.Labels
	}
	policies := slices.Clone(in.Policies)
	slices.SortFunc(policies, func(a, b *networkingv1.NetworkPolicy) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})

	var chains bytes.Buffer
	isolated := map[networkingv1.PolicyType][]endpoint{}
	for _, ep := range r.endpoints {
		if !ep.local {
			continue
		}
		for _, dir := range []networkingv1.PolicyType{networkingv1.PolicyTypeEgress, networkingv1.PolicyTypeIngress} {
			if rules, ok := r.podRules(ep, dir, policies); ok {
				isolated[dir] = append(isolated[dir], ep)
				fmt.Fprintf(&chains, "\n\t# %s/%s\n", ep.namespace, ep.name)
				writeChain(&chains, chainName(ep, dir), rules)
			}
		}
	}

	var out bytes.Buffer
	fmt.Fprintf(&out, "table inet %s\ndelete table inet %s\ntable inet %s {\n", tableName, tableName, tableName)
	writeSet(&out, "nodes", nodeAddrs(in.Nodes))
	for _, name := range sortedKeys(r.sets) {
		writeSet(&out, name, r.sets[name])
	}
	writeVmap(&out, "egress", networkingv1.PolicyTypeEgress, isolated)
	writeVmap(&out, "ingress", networkingv1.PolicyTypeIngress, isolated)
	out.WriteByte('\n')

	post := []string{"type nat hook postrouting priority srcnat; policy accept;"}
	if in.PodCIDR != "" {
		post = append(post, fmt.Sprintf("ip saddr %s ip daddr != %s ip daddr != @nodes masquerade", in.PodCIDR, in.ClusterCIDR))
	}
	writeChain(&out, "postrouting", post)

	// Pods are routed, never bridged, so forward sees all that passes between
	// two pods, on one node too. What the node itself sends to its pods
	// (probes) and what pods send to their own node pass output and input
	// instead: the API always allows both, so these hooks stay free.
	out.WriteByte('\n')
	writeChain(&out, "forward", []string{
		"type filter hook forward priority filter; policy accept;",
		"ct state established,related accept",
		"ip saddr vmap @egress",
		"ip daddr vmap @ingress",
	})
	out.Write(chains.Bytes())
	out.WriteString("}\n")
	return out.String()
}

// podRules returns the body of a pod's chain, and whether any policy isolates
// the pod in this direction. Allowed traffic returns rather than being
// accepted: the other pod's chain has its say as well.
func (r *renderer) podRules(ep endpoint, dir networkingv1.PolicyType, policies []*networkingv1.NetworkPolicy) ([]string, bool) {
	isolated := false
	var allowed []string
	for _, p := range policies {
		if p.Namespace != ep.namespace || !hasType(p, dir) || !matches(&p.Spec.PodSelector, ep.labels) {
			continue
		}
		isolated = true
		if dir == networkingv1.PolicyTypeIngress {
			for _, rule := range p.Spec.Ingress {
				allowed = append(allowed, r.ingressRule(ep, p.Namespace, rule)...)
			}
		} else {
			for _, rule := range p.Spec.Egress {
				allowed = append(allowed, r.egressRule(p.Namespace, rule)...)
			}
		}
	}
	if !isolated {
		return nil, false
	}
	// A pod always reaches itself, through a Service too.
	rules := []string{fmt.Sprintf("%s %s return", peerField(dir), ep.ip)}
	seen := map[string]bool{}
	for _, rule := range allowed {
		if !seen[rule] {
			seen[rule] = true
			rules = append(rules, rule)
		}
	}
	return append(rules, "drop"), true
}

func (r *renderer) ingressRule(ep endpoint, namespace string, rule networkingv1.NetworkPolicyIngressRule) []string {
	// The isolated pod is the destination: its own ports have the names.
	ports := numericPorts(rule.Ports)
	for _, np := range namedPorts(rule.Ports) {
		for _, n := range resolve(ep, np) {
			ports = addPort(ports, np.protocol, portSpan{n, n})
		}
	}
	return combine(r.peerMatches("ip saddr", namespace, rule.From), portMatches(rule.Ports, ports))
}

func (r *renderer) egressRule(namespace string, rule networkingv1.NetworkPolicyEgressRule) []string {
	out := combine(r.peerMatches("ip daddr", namespace, rule.To), portMatches(rule.Ports, numericPorts(rule.Ports)))
	// A name means another number on each destination: group the
	// destinations by number.
	for _, np := range namedPorts(rule.Ports) {
		byNumber := map[int32][]netip.Addr{}
		for _, dst := range r.endpoints {
			if len(rule.To) > 0 && !r.anyPeerMatches(namespace, rule.To, dst) {
				continue
			}
			for _, n := range resolve(dst, np) {
				byNumber[n] = append(byNumber[n], dst.ip)
			}
		}
		for _, n := range sortedKeys(byNumber) {
			pm := portMatch{protocol: np.protocol, spans: []portSpan{{n, n}}}
			out = append(out, combine([]string{"ip daddr " + r.addrs(byNumber[n])}, []string{pm.String()})...)
		}
	}
	return out
}

// peerMatches returns one address match for each part of a rule's peers: none
// where the rule names peers and none exist, an empty one where it names no
// peers at all, which stands for everything.
func (r *renderer) peerMatches(field, namespace string, peers []networkingv1.NetworkPolicyPeer) []string {
	if len(peers) == 0 {
		return []string{""}
	}
	var out []string
	var pods []netip.Addr
	for _, ep := range r.endpoints {
		for _, peer := range peers {
			if r.podPeerMatches(namespace, peer, ep) {
				pods = append(pods, ep.ip)
				break
			}
		}
	}
	if len(pods) > 0 {
		out = append(out, field+" "+r.addrs(pods))
	}
	for _, peer := range peers {
		cidr, except, ok := block(peer)
		if !ok {
			continue
		}
		var m []string
		if cidr.Bits() > 0 {
			m = append(m, field+" "+cidr.String())
		}
		none := false
		for _, e := range except {
			none = none || e.Bits() == 0
			m = append(m, field+" != "+e.String())
		}
		if !none {
			out = append(out, strings.Join(m, " "))
		}
	}
	return out
}

func (r *renderer) anyPeerMatches(namespace string, peers []networkingv1.NetworkPolicyPeer, ep endpoint) bool {
	return slices.ContainsFunc(peers, func(peer networkingv1.NetworkPolicyPeer) bool {
		if cidr, except, ok := block(peer); ok {
			return cidr.Contains(ep.ip) && !slices.ContainsFunc(except, func(e netip.Prefix) bool { return e.Contains(ep.ip) })
		}
		return r.podPeerMatches(namespace, peer, ep)
	})
}

func (r *renderer) podPeerMatches(namespace string, peer networkingv1.NetworkPolicyPeer, ep endpoint) bool {
	if peer.IPBlock != nil || (peer.PodSelector == nil && peer.NamespaceSelector == nil) {
		return false
	}
	if peer.NamespaceSelector == nil {
		if ep.namespace != namespace {
			return false
		}
	} else if ns, known := r.namespaces[ep.namespace]; !known || !matches(peer.NamespaceSelector, ns) {
		return false
	}
	return peer.PodSelector == nil || matches(peer.PodSelector, ep.labels)
}

// addrs returns an nft expression for the addresses. Several become a named
// set, shared by all rules with the same peers; the name comes from the
// content, so that it says nothing about the order of rules.
func (r *renderer) addrs(ips []netip.Addr) string {
	if len(ips) == 1 {
		return ips[0].String()
	}
	h := fnv.New64a()
	for _, ip := range ips {
		h.Write(ip.AsSlice())
	}
	name := fmt.Sprintf("pods-%016x", h.Sum64())
	r.sets[name] = ips
	return "@" + name
}

// endpoints returns the pods that have a live address on the pod network,
// sorted by it. A terminating pod can still show an address that a new pod
// already has: the newer one wins.
func endpoints(pods []*corev1.Pod, nodeName string) []endpoint {
	owner := map[netip.Addr]*corev1.Pod{}
	for _, pod := range pods {
		if pod.Spec.HostNetwork || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
			continue
		}
		ip, ok := podIPv4(pod)
		if !ok {
			continue
		}
		if old, taken := owner[ip]; !taken || newer(pod, old) {
			owner[ip] = pod
		}
	}
	var out []endpoint
	for ip, pod := range owner {
		ep := endpoint{
			ip: ip, namespace: pod.Namespace, name: pod.Name,
			local: pod.Spec.NodeName == nodeName, labels: pod.Labels,
		}
		for _, c := range pod.Spec.InitContainers {
			// Only a sidecar still listens once the pod runs.
			if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
				ep.ports = append(ep.ports, c.Ports...)
			}
		}
		for _, c := range pod.Spec.Containers {
			ep.ports = append(ep.ports, c.Ports...)
		}
		out = append(out, ep)
	}
	slices.SortFunc(out, func(a, b endpoint) int { return a.ip.Compare(b.ip) })
	return out
}

func newer(a, b *corev1.Pod) bool {
	if !a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return b.CreationTimestamp.Before(&a.CreationTimestamp)
	}
	return a.Namespace+"/"+a.Name > b.Namespace+"/"+b.Name
}

func podIPv4(pod *corev1.Pod) (netip.Addr, bool) {
	for _, p := range append([]corev1.PodIP{{IP: pod.Status.PodIP}}, pod.Status.PodIPs...) {
		if ip, err := netip.ParseAddr(p.IP); err == nil && ip.Is4() {
			return ip, true
		}
	}
	return netip.Addr{}, false
}

// nodeAddrs returns the internal IPv4 addresses of all nodes, sorted.
func nodeAddrs(nodes []*corev1.Node) []netip.Addr {
	var out []netip.Addr
	for _, n := range nodes {
		if ip, ok := nodeIPv4(n); ok {
			out = append(out, ip)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

func nodeIPv4(node *corev1.Node) (netip.Addr, bool) {
	for _, a := range node.Status.Addresses {
		if a.Type != corev1.NodeInternalIP {
			continue
		}
		if ip, err := netip.ParseAddr(a.Address); err == nil && ip.Is4() {
			return ip, true
		}
	}
	return netip.Addr{}, false
}

func podCIDRv4(node *corev1.Node) (netip.Prefix, bool) {
	for _, s := range append([]string{node.Spec.PodCIDR}, node.Spec.PodCIDRs...) {
		if p, err := netip.ParsePrefix(s); err == nil && p.Addr().Is4() {
			return p.Masked(), true
		}
	}
	return netip.Prefix{}, false
}

// Routes returns, for every other node, its pod network and the address that
// leads to it.
func Routes(nodes []*corev1.Node, self string) map[netip.Prefix]netip.Addr {
	out := map[netip.Prefix]netip.Addr{}
	for _, n := range nodes {
		cidr, ok := podCIDRv4(n)
		ip, hasIP := nodeIPv4(n)
		if n.Name != self && ok && hasIP {
			out[cidr] = ip
		}
	}
	return out
}

// CNIConfig returns the network configuration for the container runtime.
func CNIConfig(podCIDR netip.Prefix, mtu int) []byte {
	type obj = map[string]any
	type list = []any
	out, err := json.MarshalIndent(obj{
		"cniVersion": "1.0.0",
		"name":       "kindnet",
		"plugins": list{
			obj{
				"type":   "ptp",
				"ipMasq": false,
				"mtu":    mtu,
				"ipam": obj{
					"type":    "host-local",
					"dataDir": "/run/cni-ipam-state",
					"routes":  list{obj{"dst": "0.0.0.0/0"}},
					"ranges":  list{list{obj{"subnet": podCIDR.String()}}},
				},
			},
			obj{"type": "portmap", "capabilities": obj{"portMappings": true}},
		},
	}, "", "  ")
	if err != nil {
		panic(err) // strings and numbers only
	}
	return append(out, '\n')
}

// hasType applies the API's default to policies that never passed through it.
func hasType(p *networkingv1.NetworkPolicy, dir networkingv1.PolicyType) bool {
	if len(p.Spec.PolicyTypes) == 0 {
		return dir == networkingv1.PolicyTypeIngress || len(p.Spec.Egress) > 0
	}
	return slices.Contains(p.Spec.PolicyTypes, dir)
}

func matches(s *metav1.LabelSelector, set labels.Set) bool {
	sel, err := metav1.LabelSelectorAsSelector(s)
	return err == nil && sel.Matches(set)
}

func block(peer networkingv1.NetworkPolicyPeer) (cidr netip.Prefix, except []netip.Prefix, ok bool) {
	if peer.IPBlock == nil {
		return cidr, nil, false
	}
	cidr, err := netip.ParsePrefix(peer.IPBlock.CIDR)
	if err != nil || !cidr.Addr().Is4() {
		return cidr, nil, false
	}
	for _, s := range peer.IPBlock.Except {
		if e, err := netip.ParsePrefix(s); err == nil && e.Addr().Is4() {
			except = append(except, e.Masked())
		}
	}
	return cidr.Masked(), except, true
}

type namedPort struct {
	protocol corev1.Protocol
	name     string
}

func namedPorts(ports []networkingv1.NetworkPolicyPort) []namedPort {
	var out []namedPort
	for _, p := range ports {
		if p.Port != nil && p.Port.StrVal != "" {
			out = append(out, namedPort{protocolOf(p), p.Port.StrVal})
		}
	}
	return out
}

func resolve(ep endpoint, np namedPort) []int32 {
	var out []int32
	for _, p := range ep.ports {
		if p.Name == np.name && cmp.Or(p.Protocol, corev1.ProtocolTCP) == np.protocol {
			out = append(out, p.ContainerPort)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func protocolOf(p networkingv1.NetworkPolicyPort) corev1.Protocol {
	if p.Protocol == nil {
		return corev1.ProtocolTCP
	}
	return *p.Protocol
}

// numericPorts collects the ports that mean the same on every destination.
func numericPorts(ports []networkingv1.NetworkPolicyPort) map[corev1.Protocol]portMatch {
	out := map[corev1.Protocol]portMatch{}
	for _, p := range ports {
		proto := protocolOf(p)
		switch {
		case p.Port == nil:
			out[proto] = portMatch{protocol: proto, all: true}
		case p.Port.StrVal != "":
		case p.EndPort != nil:
			out = addPort(out, proto, portSpan{p.Port.IntVal, *p.EndPort})
		default:
			out = addPort(out, proto, portSpan{p.Port.IntVal, p.Port.IntVal})
		}
	}
	return out
}

func addPort(m map[corev1.Protocol]portMatch, proto corev1.Protocol, s portSpan) map[corev1.Protocol]portMatch {
	pm := m[proto]
	pm.protocol = proto
	if !pm.all {
		pm.spans = append(pm.spans, s)
	}
	m[proto] = pm
	return m
}

// portMatches returns one match for each protocol: an empty one where the rule
// has no ports, none where none of its ports exists.
func portMatches(ports []networkingv1.NetworkPolicyPort, m map[corev1.Protocol]portMatch) []string {
	if len(ports) == 0 {
		return []string{""}
	}
	var out []string
	for _, proto := range protocols {
		if pm, ok := m[proto]; ok {
			out = append(out, pm.String())
		}
	}
	return out
}

func (pm portMatch) String() string {
	proto := strings.ToLower(string(pm.protocol))
	if pm.all {
		return "meta l4proto " + proto
	}
	// nft refuses overlapping ranges in one set.
	spans := slices.Clone(pm.spans)
	slices.SortFunc(spans, func(a, b portSpan) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to)) })
	var merged []portSpan
	for _, s := range spans {
		if n := len(merged); n > 0 && s.from <= merged[n-1].to+1 {
			merged[n-1].to = max(merged[n-1].to, s.to)
		} else {
			merged = append(merged, s)
		}
	}
	var elems []string
	for _, s := range merged {
		if s.from == s.to {
			elems = append(elems, fmt.Sprint(s.from))
		} else {
			elems = append(elems, fmt.Sprintf("%d-%d", s.from, s.to))
		}
	}
	if len(elems) == 1 {
		return proto + " dport " + elems[0]
	}
	return proto + " dport { " + strings.Join(elems, ", ") + " }"
}

// combine returns a rule for each pair of an address and a port match.
func combine(peers, ports []string) []string {
	var out []string
	for _, peer := range peers {
		for _, port := range ports {
			out = append(out, strings.Join(strings.Fields(peer+" "+port+" return"), " "))
		}
	}
	return out
}

func peerField(dir networkingv1.PolicyType) string {
	if dir == networkingv1.PolicyTypeIngress {
		return "ip saddr"
	}
	return "ip daddr"
}

// chainName uses the address: a pod's name can be longer than nft allows.
func chainName(ep endpoint, dir networkingv1.PolicyType) string {
	return fmt.Sprintf("pod-%s-%s", ep.ip, strings.ToLower(string(dir)))
}

func writeChain(out *bytes.Buffer, name string, rules []string) {
	fmt.Fprintf(out, "\tchain %s {\n", name)
	for _, rule := range rules {
		fmt.Fprintf(out, "\t\t%s\n", rule)
	}
	out.WriteString("\t}\n")
}

func writeSet(out *bytes.Buffer, name string, ips []netip.Addr) {
	elems := make([]string, 0, len(ips))
	for _, ip := range ips {
		elems = append(elems, ip.String())
	}
	writeElements(out, "set "+name, "ipv4_addr", elems)
}

func writeVmap(out *bytes.Buffer, name string, dir networkingv1.PolicyType, isolated map[networkingv1.PolicyType][]endpoint) {
	var elems []string
	for _, ep := range isolated[dir] {
		elems = append(elems, fmt.Sprintf("%s : jump %s", ep.ip, chainName(ep, dir)))
	}
	writeElements(out, "map "+name, "ipv4_addr : verdict", elems)
}

func writeElements(out *bytes.Buffer, head, typ string, elems []string) {
	fmt.Fprintf(out, "\t%s {\n\t\ttype %s\n", head, typ)
	if len(elems) > 0 {
		fmt.Fprintf(out, "\t\telements = {\n\t\t\t%s\n\t\t}\n", strings.Join(elems, ",\n\t\t\t"))
	}
	out.WriteString("\t}\n")
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
