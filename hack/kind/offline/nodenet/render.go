package main

import (
	"fmt"
	"net"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Input is everything that the rules of one node follow from.
type Input struct {
	Node        string
	ClusterCIDR string
	Nodes       []*corev1.Node
	Pods        []*corev1.Pod
	Namespaces  []*corev1.Namespace
	Policies    []*netv1.NetworkPolicy
}

const (
	ingress = netv1.PolicyTypeIngress
	egress  = netv1.PolicyTypeEgress
)

// Render gives the node's rules as a script for `nft -f`: the same input, in whatever order, gives the same script.
//
// Services need no thought: kube-proxy has put a pod's address in place of a service's before these rules see a packet.
// Nor do packets from the node itself to its pods, such as probes: they are not forwarded, and so always let in.
func Render(in Input) string {
	var b strings.Builder
	// Named first so that deleting it cannot fail; all of it is one transaction.
	b.WriteString("table inet nodenet\ndelete table inet nodenet\ntable inet nodenet {\n")
	if own := in.podCIDR(); own != "" {
		inside := []string{in.ClusterCIDR}
		for _, node := range in.Nodes {
			if ip := internalIP(node); isIPv4(ip) && !contains(in.ClusterCIDR, ip) {
				inside = append(inside, ip)
			}
		}
		b.WriteString("\tchain postrouting {\n\t\ttype nat hook postrouting priority srcnat; policy accept;\n")
		fmt.Fprintf(&b, "\t\tip saddr %s ip daddr != %s masquerade\n\t}\n", own, set(inside))
	}
	var jumps, chains []string
	for _, pod := range in.isolatable() {
		if pod.Spec.NodeName != in.Node {
			continue
		}
		for _, direction := range []netv1.PolicyType{egress, ingress} {
			rules, isolated := in.rules(pod, direction)
			if !isolated {
				continue
			}
			side, name := "saddr", fmt.Sprintf("out_%s", strings.ReplaceAll(pod.Status.PodIP, ".", "_"))
			if direction == ingress {
				side, name = "daddr", fmt.Sprintf("in_%s", strings.ReplaceAll(pod.Status.PodIP, ".", "_"))
			}
			jumps = append(jumps, fmt.Sprintf("\t\tip %s %s jump %s\n", side, pod.Status.PodIP, name))
			// "return" lets the packet go on to what the other end's policies say.
			body := strings.Join(rules, "")
			chains = append(chains, fmt.Sprintf("\tchain %s { # %s/%s\n%s\t\tdrop\n\t}\n", name, pod.Namespace, pod.Name, body))
		}
	}
	slices.Sort(chains)
	for _, chain := range chains {
		b.WriteString(chain)
	}
	b.WriteString("\tchain forward {\n\t\ttype filter hook forward priority filter; policy accept;\n")
	b.WriteString("\t\tct state established,related accept\n")
	slices.SortFunc(jumps, func(x, y string) int { return strings.Compare(y, x) }) // saddr, and so egress, first
	for _, jump := range jumps {
		b.WriteString(jump)
	}
	b.WriteString("\t}\n}\n")
	return b.String()
}

// rules are those of all policies for one pod in one direction, and whether there is such a policy at all.
func (in Input) rules(pod *corev1.Pod, direction netv1.PolicyType) (rules []string, isolated bool) {
	for _, policy := range in.Policies {
		if policy.Namespace != pod.Namespace || !isOf(policy, direction) || !matches(&policy.Spec.PodSelector, pod.Labels) {
			continue
		}
		isolated = true
		if direction == ingress {
			for _, rule := range policy.Spec.Ingress {
				rules = append(rules, in.rule("saddr", policy.Namespace, rule.From, rule.Ports, pod)...)
			}
		} else {
			for _, rule := range policy.Spec.Egress {
				rules = append(rules, in.rule("daddr", policy.Namespace, rule.To, rule.Ports, nil)...)
			}
		}
	}
	slices.Sort(rules)
	return slices.Compact(rules), isolated
}

// rule is one ingress or egress rule. `to` has the named ports; nil: each peer has its own.
func (in Input) rule(
	side, namespace string, peers []netv1.NetworkPolicyPeer, ports []netv1.NetworkPolicyPort, to *corev1.Pod,
) (rules []string) {
	add := func(address string, owner *corev1.Pod) {
		for _, port := range portMatches(ports, owner) {
			rules = append(rules, "\t\t"+strings.TrimLeft(address+port+" return\n", " "))
		}
	}
	if len(peers) == 0 {
		add("", to)
		return rules
	}
	for _, peer := range peers {
		if peer.IPBlock != nil {
			address := fmt.Sprintf("ip %s %s", side, peer.IPBlock.CIDR)
			for _, except := range peer.IPBlock.Except { // one by one: in a set they must not overlap
				address += fmt.Sprintf(" ip %s != %s", side, except)
			}
			if isIPv4(peer.IPBlock.CIDR) {
				add(address, to)
			}
			continue
		}
		pods := in.peers(namespace, peer)
		if to == nil && named(ports) {
			for _, pod := range pods {
				add(fmt.Sprintf("ip %s %s", side, pod.Status.PodIP), pod)
			}
		} else if len(pods) > 0 {
			var addresses []string
			for _, pod := range pods {
				addresses = append(addresses, pod.Status.PodIP)
			}
			add(fmt.Sprintf("ip %s %s", side, set(addresses)), to)
		}
	}
	return rules
}

func (in Input) peers(namespace string, peer netv1.NetworkPolicyPeer) (found []*corev1.Pod) {
	known := map[string]map[string]string{}
	for _, n := range in.Namespaces {
		known[n.Name] = n.Labels
	}
	for _, pod := range in.isolatable() {
		if peer.NamespaceSelector == nil && pod.Namespace != namespace {
			continue
		}
		if peer.NamespaceSelector != nil && !matches(peer.NamespaceSelector, known[pod.Namespace]) {
			continue
		}
		if peer.PodSelector == nil || matches(peer.PodSelector, pod.Labels) {
			found = append(found, pod)
		}
	}
	return found
}

// isolatable are pods with an address of their own: not those that ended, nor those that have their node's.
func (in Input) isolatable() (found []*corev1.Pod) {
	for _, pod := range in.Pods {
		ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
		if !ended && !pod.Spec.HostNetwork && isIPv4(pod.Status.PodIP) {
			found = append(found, pod)
		}
	}
	return found
}

func (in Input) podCIDR() string {
	for _, node := range in.Nodes {
		if node.Name == in.Node {
			return node.Spec.PodCIDR
		}
	}
	return ""
}

// portMatches are the port parts of rules, one a protocol; a single empty one where all ports are meant.
func portMatches(ports []netv1.NetworkPolicyPort, owner *corev1.Pod) (found []string) {
	if len(ports) == 0 {
		return []string{""}
	}
	whole := map[corev1.Protocol]bool{}
	numbers := map[corev1.Protocol][]string{}
	for _, port := range ports {
		protocol := corev1.ProtocolTCP
		if port.Protocol != nil {
			protocol = *port.Protocol
		}
		switch {
		case port.Port == nil:
			whole[protocol] = true
		case port.Port.Type == intstr.String:
			for _, number := range resolve(owner, port.Port.StrVal, protocol) {
				numbers[protocol] = append(numbers[protocol], fmt.Sprint(number))
			}
		case port.EndPort != nil:
			found = append(found, fmt.Sprintf(" %s dport %d-%d", strings.ToLower(string(protocol)), port.Port.IntVal, *port.EndPort))
		default:
			numbers[protocol] = append(numbers[protocol], fmt.Sprint(port.Port.IntVal))
		}
	}
	for _, protocol := range []corev1.Protocol{corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP} {
		name := strings.ToLower(string(protocol))
		if whole[protocol] {
			found = append(found, fmt.Sprintf(" meta l4proto %s", name))
		} else if len(numbers[protocol]) > 0 {
			found = append(found, fmt.Sprintf(" %s dport %s", name, set(numbers[protocol])))
		}
	}
	return found
}

func resolve(pod *corev1.Pod, name string, protocol corev1.Protocol) (found []int32) {
	if pod == nil {
		return nil
	}
	for _, container := range pod.Spec.Containers {
		for _, port := range container.Ports {
			its := port.Protocol
			if its == "" {
				its = corev1.ProtocolTCP
			}
			if port.Name == name && its == protocol {
				found = append(found, port.ContainerPort)
			}
		}
	}
	return found
}

func named(ports []netv1.NetworkPolicyPort) bool {
	return slices.ContainsFunc(ports, func(p netv1.NetworkPolicyPort) bool {
		return p.Port != nil && p.Port.Type == intstr.String
	})
}

// isOf follows the API's default: a policy is about ingress, and about egress if it has such rules.
func isOf(policy *netv1.NetworkPolicy, direction netv1.PolicyType) bool {
	if len(policy.Spec.PolicyTypes) > 0 {
		return slices.Contains(policy.Spec.PolicyTypes, direction)
	}
	return direction == ingress || len(policy.Spec.Egress) > 0
}

func matches(selector *metav1.LabelSelector, has map[string]string) bool {
	found, err := metav1.LabelSelectorAsSelector(selector)
	return err == nil && found.Matches(labels.Set(has))
}

func set(items []string) string {
	sorted := slices.Clone(items)
	slices.Sort(sorted)
	return "{ " + strings.Join(slices.Compact(sorted), ", ") + " }"
}

func isIPv4(text string) bool {
	ip := net.ParseIP(text)
	if ip == nil {
		ip, _, _ = net.ParseCIDR(text)
	}
	return ip.To4() != nil
}

func contains(cidr, ip string) bool {
	_, network, err := net.ParseCIDR(cidr)
	return err == nil && network.Contains(net.ParseIP(ip))
}
