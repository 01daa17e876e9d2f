package main

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func aNode(name, ip, cidr string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.NodeSpec{PodCIDR: cidr},
		Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: ip}}},
	}
}

func aPod(namespace, name, ip string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app": name}},
		Spec: corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{
			{Ports: []corev1.ContainerPort{{Name: "metrics", ContainerPort: 8080}}},
		}},
		Status: corev1.PodStatus{PodIP: ip, Phase: corev1.PodRunning},
	}
}

func aPolicy(spec netv1.NetworkPolicySpec) *netv1.NetworkPolicy {
	return &netv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "p"}, Spec: spec}
}

func port(number int32) netv1.NetworkPolicyPort {
	value := intstr.FromInt32(number)
	return netv1.NetworkPolicyPort{Port: &value}
}

func label(name string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}
}

func input(policies ...*netv1.NetworkPolicy) Input {
	other := aPod("team", "far", "10.244.1.9")
	other.Spec.NodeName = "n2"
	return Input{
		Node:        "n1",
		ClusterCIDR: "10.244.0.0/16",
		Nodes:       []*corev1.Node{aNode("n1", "172.18.0.2", "10.244.0.0/24"), aNode("n2", "172.18.0.3", "10.244.1.0/24")},
		Pods:        []*corev1.Pod{aPod("team", "web", "10.244.0.5"), aPod("other", "db", "10.244.0.6"), other},
		Namespaces: []*corev1.Namespace{
			{ObjectMeta: metav1.ObjectMeta{Name: "team"}},
			{ObjectMeta: metav1.ObjectMeta{Name: "other", Labels: map[string]string{"app": "other"}}},
		},
		Policies: policies,
	}
}

// lines are those of one chain, without white space; nil: there is no such chain.
func lines(script, chain string) []string {
	_, rest, found := strings.Cut(script, "chain "+chain+" {")
	if !found {
		return nil
	}
	body, _, _ := strings.Cut(rest, "\n\t}")
	var result []string
	for _, line := range strings.Split(body, "\n")[1:] {
		result = append(result, strings.TrimSpace(line))
	}
	return result
}

func TestRulesOfOnePod(t *testing.T) {
	udp, end, name := corev1.ProtocolUDP, int32(90), intstr.FromString("metrics")
	from := func(peers ...netv1.NetworkPolicyPeer) netv1.NetworkPolicySpec {
		return netv1.NetworkPolicySpec{Ingress: []netv1.NetworkPolicyIngressRule{{From: peers}}}
	}
	to := func(peers []netv1.NetworkPolicyPeer, ports ...netv1.NetworkPolicyPort) netv1.NetworkPolicySpec {
		return netv1.NetworkPolicySpec{
			PolicyTypes: []netv1.PolicyType{egress},
			Egress:      []netv1.NetworkPolicyEgressRule{{To: peers, Ports: ports}},
		}
	}
	ranged := port(80)
	ranged.EndPort = &end
	cases := map[string]struct {
		spec  netv1.NetworkPolicySpec
		chain string
		want  []string
	}{
		"nothing is allowed":                         {netv1.NetworkPolicySpec{}, "in_10_244_0_5", []string{"drop"}},
		"a policy without types is not about egress": {netv1.NetworkPolicySpec{}, "out_10_244_0_5", nil},
		"egress rules make it so": {
			netv1.NetworkPolicySpec{Egress: []netv1.NetworkPolicyEgressRule{{}}}, "out_10_244_0_5", []string{"return", "drop"},
		},
		"pods of its own namespace": {
			from(netv1.NetworkPolicyPeer{PodSelector: label("far")}), "in_10_244_0_5",
			[]string{"ip saddr { 10.244.1.9 } return", "drop"},
		},
		"a pod of that name elsewhere is somebody else": {
			from(netv1.NetworkPolicyPeer{PodSelector: label("db")}), "in_10_244_0_5", []string{"drop"},
		},
		"all of a namespace": {
			from(netv1.NetworkPolicyPeer{NamespaceSelector: label("other")}), "in_10_244_0_5",
			[]string{"ip saddr { 10.244.0.6 } return", "drop"},
		},
		"both selectors": {
			from(netv1.NetworkPolicyPeer{NamespaceSelector: label("other"), PodSelector: label("far")}), "in_10_244_0_5",
			[]string{"drop"},
		},
		"a block but for a part": {
			from(netv1.NetworkPolicyPeer{IPBlock: &netv1.IPBlock{CIDR: "10.0.0.0/8", Except: []string{"10.1.0.0/16"}}}),
			"in_10_244_0_5", []string{"ip saddr 10.0.0.0/8 ip saddr != 10.1.0.0/16 return", "drop"},
		},
		"ports": {
			to(nil, port(443), port(6443), netv1.NetworkPolicyPort{Protocol: &udp}, ranged), "out_10_244_0_5",
			[]string{"meta l4proto udp return", "tcp dport 80-90 return", "tcp dport { 443, 6443 } return", "drop"},
		},
		"a named port is the other end's": {
			to([]netv1.NetworkPolicyPeer{{NamespaceSelector: label("other")}}, netv1.NetworkPolicyPort{Port: &name}),
			"out_10_244_0_5", []string{"ip daddr 10.244.0.6 tcp dport { 8080 } return", "drop"},
		},
		"a named port of its own": {
			netv1.NetworkPolicySpec{
				Ingress: []netv1.NetworkPolicyIngressRule{{Ports: []netv1.NetworkPolicyPort{{Port: &name}}}},
			},
			"in_10_244_0_5", []string{"tcp dport { 8080 } return", "drop"},
		},
		"a pod that is not meant": {
			netv1.NetworkPolicySpec{PodSelector: *label("far")}, "in_10_244_0_5", nil,
		},
		"a pod of another node":      {netv1.NetworkPolicySpec{PodSelector: *label("far")}, "in_10_244_1_9", nil},
		"a pod of another namespace": {netv1.NetworkPolicySpec{}, "in_10_244_0_6", nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := lines(Render(input(aPolicy(c.spec))), c.chain)
			if strings.Join(got, "\n") != strings.Join(c.want, "\n") || (got == nil) != (c.want == nil) {
				t.Errorf("%s:\n%s\nwant:\n%s", c.chain, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

func TestThoseThatHaveNoAddressOfTheirOwnAreNeverIsolated(t *testing.T) {
	in := input(aPolicy(netv1.NetworkPolicySpec{}))
	in.Pods[0].Spec.HostNetwork = true
	if got := lines(Render(in), "in_10_244_0_5"); got != nil {
		t.Error(got)
	}
	in.Pods[0].Spec.HostNetwork, in.Pods[0].Status.Phase = false, corev1.PodSucceeded
	if got := lines(Render(in), "in_10_244_0_5"); got != nil {
		t.Error(got)
	}
}

func TestWhatLeavesTheClusterIsHidden(t *testing.T) {
	want := "ip saddr 10.244.0.0/24 ip daddr != { 10.244.0.0/16, 172.18.0.2, 172.18.0.3 } masquerade"
	if got := lines(Render(input()), "postrouting"); got[1] != want {
		t.Error(got)
	}
}

func TestTheOrderOfTheInputDoesNotMatter(t *testing.T) {
	one, two := input(aPolicy(netv1.NetworkPolicySpec{})), input(aPolicy(netv1.NetworkPolicySpec{}))
	for i, j := 0, len(two.Pods)-1; i < j; i, j = i+1, j-1 {
		two.Pods[i], two.Pods[j] = two.Pods[j], two.Pods[i]
	}
	if Render(one) != Render(two) {
		t.Error("another order, another script")
	}
}
