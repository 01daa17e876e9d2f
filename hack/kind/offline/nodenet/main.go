// Command nodenet is a node's pod network for kind clusters: it writes the CNI
// configuration, keeps routes to the other nodes' pods, masquerades what leaves
// the cluster, and enforces NetworkPolicy with nftables. IPv4 only.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/netip"
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
	corelisters "k8s.io/client-go/listers/core/v1"
	networkinglisters "k8s.io/client-go/listers/networking/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	debounce    = 100 * time.Millisecond
	retryAfter  = time.Second
	resyncEvery = 30 * time.Second

	// routeProtocol marks our routes, so that those of nodes that went while
	// this program was down are still known as ours.
	routeProtocol = netlink.RouteProtocol(189)
)

type agent struct {
	nodeName    string
	clusterCIDR string
	cniDir      string
	nft         string

	nodes      corelisters.NodeLister
	pods       corelisters.PodLister
	namespaces corelisters.NamespaceLister
	policies   networkinglisters.NetworkPolicyLister

	loaded  string // the script that nft last took
	waiting bool   // said already that the node has no pod CIDR
}

func main() {
	log.SetFlags(log.LstdFlags | log.Lmsgprefix)
	log.SetPrefix("nodenet: ")
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	a := &agent{nodeName: os.Getenv("NODE_NAME")}
	var kubeconfig, server string
	flag.StringVar(&a.cniDir, "cni-dir", "/etc/cni/net.d", "folder for the CNI configuration")
	flag.StringVar(&a.clusterCIDR, "cluster-cidr", "10.244.0.0/16", "addresses of all pods; traffic to them keeps its source")
	flag.StringVar(&a.nft, "nft", "/usr/sbin/nft", "the nft program")
	flag.StringVar(&kubeconfig, "kubeconfig", "", "kubeconfig file; empty: the pod's service account")
	flag.StringVar(&server, "server", "", "API server's URL; empty: the configuration's")
	flag.Parse()
	if a.nodeName == "" {
		return errors.New("NODE_NAME is not set")
	}
	cidr, err := netip.ParsePrefix(a.clusterCIDR)
	if err != nil || !cidr.Addr().Is4() {
		return fmt.Errorf("--cluster-cidr %q is not an IPv4 network", a.clusterCIDR)
	}
	a.clusterCIDR = cidr.Masked().String()

	config, err := restConfig(kubeconfig, server)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()

	changed := make(chan struct{}, 1)
	notify := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { notify() },
		UpdateFunc: func(any, any) { notify() },
		DeleteFunc: func(any) { notify() },
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	core, networking := factory.Core().V1(), factory.Networking().V1()
	a.nodes, a.pods = core.Nodes().Lister(), core.Pods().Lister()
	a.namespaces, a.policies = core.Namespaces().Lister(), networking.NetworkPolicies().Lister()
	for _, informer := range []cache.SharedIndexInformer{
		core.Nodes().Informer(), core.Pods().Informer(), core.Namespaces().Informer(), networking.NetworkPolicies().Informer(),
	} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return err
		}
	}
	factory.Start(ctx.Done())
	// Rules from half of the objects could let through what a policy forbids.
	factory.WaitForCacheSync(ctx.Done())
	if ctx.Err() == nil {
		log.Printf("watching the cluster as node %s", a.nodeName)
	}
	notify()

	resync := time.NewTicker(resyncEvery)
	defer resync.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-resync.C:
			a.checkTable(ctx)
		case <-changed:
			if !pause(ctx, debounce) {
				return nil
			}
			// What came in during the pause is in the listers by now.
			select {
			case <-changed:
			default:
			}
		}
		if err := a.sync(ctx); err != nil && ctx.Err() == nil {
			log.Printf("trying again: %v", strings.ReplaceAll(err.Error(), "\n", "; "))
			pause(ctx, retryAfter)
			notify()
		}
	}
}

func restConfig(kubeconfig, server string) (*rest.Config, error) {
	if kubeconfig != "" {
		return clientcmd.BuildConfigFromFlags(server, kubeconfig)
	}
	config, err := rest.InClusterConfig()
	if err == nil && server != "" {
		config.Host = server
	}
	return config, err
}

// pause reports whether the time went by before the program was told to stop.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func (a *agent) sync(ctx context.Context) error {
	nodes, err := a.nodes.List(labels.Everything())
	if err != nil {
		return err
	}
	var podCIDR netip.Prefix
	for _, n := range nodes {
		if n.Name == a.nodeName {
			podCIDR, _ = podCIDRv4(n)
		}
	}
	if !podCIDR.IsValid() {
		// An event tells when that changes.
		if !a.waiting {
			log.Printf("node %s has no IPv4 pod CIDR yet", a.nodeName)
		}
		a.waiting = true
		return nil
	}
	a.waiting = false

	routesErr := syncRoutes(nodes, a.nodeName)
	if err := a.syncRules(ctx, nodes, podCIDR); err != nil {
		// Without rules no pod should start, so no CNI configuration either.
		return errors.Join(err, routesErr)
	}
	return errors.Join(routesErr, a.syncCNI(podCIDR))
}

func (a *agent) syncRules(ctx context.Context, nodes []*corev1.Node, podCIDR netip.Prefix) error {
	in := Input{NodeName: a.nodeName, PodCIDR: podCIDR.String(), ClusterCIDR: a.clusterCIDR, Nodes: nodes}
	var err error
	if in.Pods, err = a.pods.List(labels.Everything()); err != nil {
		return err
	}
	if in.Namespaces, err = a.namespaces.List(labels.Everything()); err != nil {
		return err
	}
	if in.Policies, err = a.policies.List(labels.Everything()); err != nil {
		return err
	}
	script := Render(in)
	if script == a.loaded {
		return nil
	}
	if err := a.runNft(ctx, script, "-f", "-"); err != nil {
		return err
	}
	a.loaded = script
	log.Printf("rules loaded: %d policies, %d chains of isolated pods", len(in.Policies), strings.Count(script, "\tchain pod-"))
	return nil
}

// checkTable forgets what was loaded if someone else removed it.
func (a *agent) checkTable(ctx context.Context) {
	if a.loaded == "" {
		return
	}
	if err := a.runNft(ctx, "", "-t", "list", "table", "inet", tableName); err != nil && ctx.Err() == nil {
		log.Printf("rules are gone: %v", err)
		a.loaded = ""
	}
}

func (a *agent) runNft(ctx context.Context, stdin string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, resyncEvery)
	defer cancel()
	cmd := exec.CommandContext(ctx, a.nft, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		first, _, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n")
		return fmt.Errorf("nft %s: %w: %s", strings.Join(args, " "), err, first)
	}
	return nil
}

func syncRoutes(nodes []*corev1.Node, self string) error {
	want := Routes(nodes, self)
	filter := &netlink.Route{Protocol: routeProtocol}
	have, err := netlink.RouteListFiltered(netlink.FAMILY_V4, filter, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	var errs []error
	for _, r := range have {
		if r.Dst == nil {
			continue
		}
		dst, err := netip.ParsePrefix(r.Dst.String())
		if err != nil {
			continue
		}
		gw, _ := netip.AddrFromSlice(r.Gw)
		switch via, wanted := want[dst]; {
		case wanted && via == gw.Unmap():
			delete(want, dst)
		case !wanted:
			if err := netlink.RouteDel(&r); err != nil {
				errs = append(errs, fmt.Errorf("remove route %s: %w", dst, err))
				continue
			}
			log.Printf("route removed: %s via %s", dst, gw.Unmap())
		}
	}
	for dst, via := range want {
		r := &netlink.Route{
			Dst:      &net.IPNet{IP: dst.Addr().AsSlice(), Mask: net.CIDRMask(dst.Bits(), 32)},
			Gw:       via.AsSlice(),
			Protocol: routeProtocol,
		}
		if err := netlink.RouteReplace(r); err != nil {
			errs = append(errs, fmt.Errorf("set route %s via %s: %w", dst, via, err))
			continue
		}
		log.Printf("route set: %s via %s", dst, via)
	}
	return errors.Join(errs...)
}

func (a *agent) syncCNI(podCIDR netip.Prefix) error {
	mtu, err := defaultMTU()
	if err != nil {
		return err
	}
	path := filepath.Join(a.cniDir, "10-kind.conflist")
	data := CNIConfig(podCIDR, mtu)
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	if err := os.MkdirAll(a.cniDir, 0o755); err != nil {
		return err
	}
	// The runtime reads every *.conflist as soon as it appears: rename a whole
	// file into place.
	tmp := filepath.Join(a.cniDir, ".10-kind.conflist.tmp")
	if err := os.WriteFile(tmp, data, 0o644); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	log.Printf("CNI configuration written: %s, pods %s, mtu %d", path, podCIDR, mtu)
	return nil
}

func defaultMTU() (int, error) {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return 0, fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		if r.LinkIndex == 0 || (r.Dst != nil && !(r.Dst.IP.IsUnspecified() && isZeroMask(r.Dst.Mask))) {
			continue
		}
		link, err := netlink.LinkByIndex(r.LinkIndex)
		if err != nil {
			return 0, fmt.Errorf("device of the default route: %w", err)
		}
		return link.Attrs().MTU, nil
	}
	return 0, errors.New("no default route")
}

func isZeroMask(m net.IPMask) bool {
	ones, _ := m.Size()
	return ones == 0
}
