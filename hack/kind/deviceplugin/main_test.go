package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const (
	patience = 20 * time.Second
	look     = 10 * time.Millisecond
)

type kubelet struct {
	api.UnimplementedRegistrationServer
	asked  chan *api.RegisterRequest
	server *grpc.Server
}

func (k *kubelet) Register(_ context.Context, request *api.RegisterRequest) (*api.Empty, error) {
	k.asked <- request
	return &api.Empty{}, nil
}

// startKubelet does as the real one: other sockets in the folder go first.
func startKubelet(t *testing.T, dir string) *kubelet {
	t.Helper()
	sockets, _ := filepath.Glob(filepath.Join(dir, "*.sock"))
	for _, socket := range sockets {
		if err := os.Remove(socket); err != nil {
			t.Fatal(err)
		}
	}
	listener, err := net.Listen("unix", filepath.Join(dir, kubeletSocket))
	if err != nil {
		t.Fatal(err)
	}
	k := &kubelet{asked: make(chan *api.RegisterRequest, 8), server: grpc.NewServer()}
	api.RegisterRegistrationServer(k.server, k)
	go k.server.Serve(listener)
	t.Cleanup(k.server.Stop)
	return k
}

func (k *kubelet) registration(t *testing.T) *api.RegisterRequest {
	t.Helper()
	select {
	case request := <-k.asked:
		return request
	case <-time.After(patience):
		t.Fatal("nobody registered")
		return nil
	}
}

type bench struct {
	plugins string
	control string
	ended   chan struct{} // closed when the plug-in has returned
	end     context.CancelFunc
}

// start runs a plug-in with two devices on node n1.
func start(t *testing.T) *bench {
	t.Helper()
	// The path of a socket has at most 107 bytes, and t.TempDir's name is long.
	dir, err := os.MkdirTemp("", "gpu")
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{plugins: filepath.Join(dir, "p"), control: filepath.Join(dir, "c"), ended: make(chan struct{})}
	for _, folder := range []string{b.plugins, b.control} {
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	b.end = cancel
	go func() {
		defer close(b.ended)
		newPlugin("nvidia.com/gpu", "n1", 2, b.plugins, b.control).run(ctx, look)
	}()
	t.Cleanup(func() {
		cancel()
		<-b.ended
		os.RemoveAll(dir)
	})
	return b
}

func (b *bench) client(t *testing.T, endpoint string) api.DevicePluginClient {
	t.Helper()
	target := "unix:" + filepath.Join(b.plugins, endpoint)
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return api.NewDevicePluginClient(conn)
}

func (b *bench) say(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(b.control, file), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) unsay(t *testing.T, file string) {
	t.Helper()
	if err := os.Remove(filepath.Join(b.control, file)); err != nil {
		t.Fatal(err)
	}
}

func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

type lists = grpc.ServerStreamingClient[api.ListAndWatchResponse]

func health(t *testing.T, stream lists) string {
	t.Helper()
	response, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, device := range response.GetDevices() {
		words = append(words, device.GetID()+"="+device.GetHealth())
	}
	return strings.Join(words, " ")
}

// healthUntil reads lists until the wanted one: writing a file may be seen half done, as an empty one.
func healthUntil(t *testing.T, stream lists, want string) {
	t.Helper()
	for got := health(t, stream); got != want; got = health(t, stream) {
		t.Logf("on the way to %q: %q", want, got)
	}
}

func TestDevicesAreListedAgainWhenHealthChanges(t *testing.T) {
	b := start(t)
	request := startKubelet(t, b.plugins).registration(t)
	if request.GetVersion() != "v1beta1" || request.GetResourceName() != "nvidia.com/gpu" {
		t.Fatalf("registered as %v", request)
	}
	stream, err := b.client(t, request.GetEndpoint()).ListAndWatch(patient(t), &api.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	if got := health(t, stream); got != "GPU-n1-0=Healthy GPU-n1-1=Healthy" {
		t.Fatal(got)
	}
	b.say(t, unhealthyFile, "1\n7\nnonsense\n") // what names no device is passed over
	healthUntil(t, stream, "GPU-n1-0=Healthy GPU-n1-1=Unhealthy")
	b.unsay(t, unhealthyFile)
	healthUntil(t, stream, "GPU-n1-0=Healthy GPU-n1-1=Healthy")
}

func TestAllocateNamesTheDevicesUnlessItRefuses(t *testing.T) {
	b := start(t)
	client := b.client(t, startKubelet(t, b.plugins).registration(t).GetEndpoint())
	request := &api.AllocateRequest{ContainerRequests: []*api.ContainerAllocateRequest{
		{DevicesIds: []string{"GPU-n1-0", "GPU-n1-1"}}, {DevicesIds: []string{"GPU-n1-1"}},
	}}
	visible := func() []string {
		response, err := client.Allocate(patient(t), request)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, container := range response.GetContainerResponses() {
			all = append(all, container.GetEnvs()["NVIDIA_VISIBLE_DEVICES"])
		}
		return all
	}
	want := []string{"GPU-n1-0,GPU-n1-1", "GPU-n1-1"}
	if got := visible(); !slices.Equal(got, want) {
		t.Fatal(got)
	}
	b.say(t, refuseFile, "GPU has fallen off the bus\n")
	if _, err := client.Allocate(patient(t), request); status.Convert(err).Message() != "GPU has fallen off the bus" {
		t.Fatal(err)
	}
	b.unsay(t, refuseFile)
	if got := visible(); !slices.Equal(got, want) {
		t.Fatal(got)
	}
}

func TestARestartedKubeletIsToldAgain(t *testing.T) {
	b := start(t)
	b.say(t, unhealthyFile, "0")
	first := startKubelet(t, b.plugins)
	before, err := b.client(t, first.registration(t).GetEndpoint()).ListAndWatch(patient(t), &api.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	healthUntil(t, before, "GPU-n1-0=Unhealthy GPU-n1-1=Healthy")
	first.server.Stop()

	second := startKubelet(t, b.plugins)
	after, err := b.client(t, second.registration(t).GetEndpoint()).ListAndWatch(patient(t), &api.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	healthUntil(t, after, "GPU-n1-0=Unhealthy GPU-n1-1=Healthy")
	if len(first.asked)+len(second.asked) > 0 {
		t.Fatal("registered more than once with the same kubelet")
	}
}

func TestAKubeletThatComesBackWithoutCleaningUpIsToldToo(t *testing.T) {
	b := start(t)
	first := startKubelet(t, b.plugins)
	first.registration(t)
	first.server.Stop() // removes its socket, leaves ours
	listener, err := net.Listen("unix", filepath.Join(b.plugins, kubeletSocket))
	if err != nil {
		t.Fatal(err)
	}
	second := &kubelet{asked: make(chan *api.RegisterRequest, 8), server: grpc.NewServer()}
	api.RegisterRegistrationServer(second.server, second)
	go second.server.Serve(listener)
	t.Cleanup(second.server.Stop)
	second.registration(t)
}

func TestTheSocketGoesWithThePlugin(t *testing.T) {
	b := start(t)
	endpoint := startKubelet(t, b.plugins).registration(t).GetEndpoint()
	b.end()
	<-b.ended
	if _, err := os.Stat(filepath.Join(b.plugins, endpoint)); !os.IsNotExist(err) {
		t.Fatal(err)
	}
}
