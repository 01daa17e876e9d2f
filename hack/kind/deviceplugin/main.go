// A device plugin whose GPUs do not exist. The kubelet counts, hands out and loses them as if they did: files in a
// control folder make single GPUs unhealthy, or make the kubelet reject every pod that asks for one.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const (
	socketName      = "stint-fake-gpu.sock"
	kubeletSocket   = "kubelet.sock"
	unhealthyFile   = "unhealthy" // device indices, one a line
	refuseFile      = "refuse"    // while it exists, its text is the answer to every Allocate
	registerTimeout = 5 * time.Second
)

func main() {
	resource := flag.String("resource", "nvidia.com/gpu", "resource name that the kubelet advertises")
	devices := flag.Int("devices", 4, "how many GPUs the node has")
	pluginsDir := flag.String("plugins-dir", "/var/lib/kubelet/device-plugins", "where the kubelet's socket is")
	controlDir := flag.String("control-dir", "/run/fake-gpus", "where files make GPUs fail")
	flag.Parse()
	if flag.NArg() > 0 || *devices < 0 {
		fmt.Fprintln(os.Stderr, "deviceplugin: no arguments, and not less than 0 devices")
		os.Exit(2)
	}
	node, err := nodeName()
	if err != nil {
		log.Fatalf("name of the node: %v", err)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer cancel()
	newPlugin(*resource, node, *devices, *pluginsDir, *controlDir).run(ctx, time.Second)
}

func nodeName() (string, error) {
	if name := os.Getenv("NODE_NAME"); name != "" {
		return name, nil
	}
	return os.Hostname()
}

// plugin serves the devices. Only run and what it calls touch the fields below mu's.
type plugin struct {
	api.UnimplementedDevicePluginServer

	resource   string
	pluginsDir string
	controlDir string
	ids        []string // by index

	mu        sync.Mutex
	unhealthy map[int]bool
	changed   chan struct{} // closed, and replaced, when unhealthy changes

	told       string // what the unhealthy file said when it was last read
	server     *grpc.Server
	own        identity
	registered identity // the kubelet's socket that knows us
}

func newPlugin(resource, node string, devices int, pluginsDir, controlDir string) *plugin {
	p := &plugin{resource: resource, pluginsDir: pluginsDir, controlDir: controlDir, changed: make(chan struct{})}
	for i := range devices {
		p.ids = append(p.ids, fmt.Sprintf("GPU-%s-%d", node, i))
	}
	return p
}

// run looks at files and sockets until the context ends. Looking is slower than inotify and misses nothing: a watch
// dies with its folder, and the kubelet's restart is then never seen.
func (p *plugin) run(ctx context.Context, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	defer p.stop()
	for {
		p.lookAtHealth()
		p.lookAtSockets(ctx)
		select {
		case <-ctx.Done():
			log.Print("stopped")
			return
		case <-ticker.C:
		}
	}
}

// identity tells a socket from its successor. The inode alone does not: file systems give freed ones out again. Its
// second half is mtime, because ctime moves with labels and modes too.
type identity struct {
	inode   uint64
	created syscall.Timespec
}

// identify answers the zero identity where there is no socket.
func identify(path string) identity {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Type() != fs.ModeSocket {
		return identity{}
	}
	stat := info.Sys().(*syscall.Stat_t)
	return identity{inode: stat.Ino, created: stat.Mtim}
}

// lookAtSockets keeps our socket there and the kubelet knowing it.
func (p *plugin) lookAtSockets(ctx context.Context) {
	path := filepath.Join(p.pluginsDir, socketName)
	if p.server != nil && identify(path) != p.own {
		log.Print("our socket is gone: the kubelet removes those of all plug-ins when it starts")
		// We serve again at the next look. The kubelet has then seen the old stream end, and cannot take its end
		// for the new one's.
		p.stop()
		return
	}
	if p.server == nil {
		if err := p.serve(path); err != nil {
			log.Printf("cannot serve: %v", err)
			return
		}
	}
	kubelet := identify(filepath.Join(p.pluginsDir, kubeletSocket))
	if kubelet == (identity{}) || kubelet == p.registered {
		return
	}
	if err := p.register(ctx); err != nil {
		log.Printf("cannot register: %v", err)
		return
	}
	p.registered = kubelet
	log.Printf("registered %d of %s", len(p.ids), p.resource)
}

func (p *plugin) serve(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	p.server = grpc.NewServer()
	p.own = identify(path)
	api.RegisterDevicePluginServer(p.server, p)
	go func(server *grpc.Server) {
		if err := server.Serve(listener); err != nil {
			log.Printf("server ended: %v", err)
		}
	}(p.server)
	return nil
}

// stop ends all streams and removes the socket.
func (p *plugin) stop() {
	if p.server != nil {
		p.server.Stop()
	}
	p.server, p.own, p.registered = nil, identity{}, identity{}
}

func (p *plugin) register(ctx context.Context) error {
	conn, err := grpc.NewClient(
		"unix:"+filepath.Join(p.pluginsDir, kubeletSocket),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithNoProxy(),
	)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	_, err = api.NewRegistrationClient(conn).Register(ctx, &api.RegisterRequest{
		Version:      api.Version,
		Endpoint:     socketName,
		ResourceName: p.resource,
		Options:      &api.DevicePluginOptions{},
	})
	return err
}

// lookAtHealth reads which devices are unhealthy. A file that cannot be read changes nothing.
func (p *plugin) lookAtHealth() {
	text, err := os.ReadFile(filepath.Join(p.controlDir, unhealthyFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Printf("health stays as it is: %v", err)
		return
	}
	if string(text) == p.told {
		return
	}
	p.told = string(text)
	unhealthy := map[int]bool{}
	for _, word := range strings.Fields(p.told) {
		index, err := strconv.Atoi(word)
		if err != nil || index < 0 || index >= len(p.ids) {
			log.Printf("%s: no device %q", unhealthyFile, word)
			continue
		}
		unhealthy[index] = true
	}
	log.Printf("%d of %d devices are unhealthy", len(unhealthy), len(p.ids))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unhealthy = unhealthy
	close(p.changed)
	p.changed = make(chan struct{})
}

// devices answers what there is now, and a channel that is closed when it is no longer true.
func (p *plugin) devices() ([]*api.Device, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]*api.Device, len(p.ids))
	for i, id := range p.ids {
		list[i] = &api.Device{ID: id, Health: api.Healthy}
		if p.unhealthy[i] {
			list[i].Health = api.Unhealthy
		}
	}
	return list, p.changed
}

func (p *plugin) GetDevicePluginOptions(context.Context, *api.Empty) (*api.DevicePluginOptions, error) {
	return &api.DevicePluginOptions{}, nil
}

func (p *plugin) ListAndWatch(_ *api.Empty, stream grpc.ServerStreamingServer[api.ListAndWatchResponse]) error {
	for {
		list, changed := p.devices()
		if err := stream.Send(&api.ListAndWatchResponse{Devices: list}); err != nil {
			return err
		}
		select {
		case <-stream.Context().Done():
			return nil
		case <-changed:
		}
	}
}

// Allocate names the devices in the environment, as NVIDIA's plug-in does. It reads the refuse file itself, so that a
// refusal holds from the moment the file is there.
func (p *plugin) Allocate(_ context.Context, request *api.AllocateRequest) (*api.AllocateResponse, error) {
	text, err := os.ReadFile(filepath.Join(p.controlDir, refuseFile))
	switch {
	case err == nil:
		reason := strings.TrimSpace(string(text))
		if reason == "" {
			reason = "refused"
		}
		log.Printf("refused an allocation: %s", reason)
		return nil, status.Error(codes.Unavailable, reason)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, status.Error(codes.Internal, err.Error())
	}
	response := &api.AllocateResponse{}
	for _, container := range request.GetContainerRequests() {
		ids := strings.Join(container.GetDevicesIds(), ",")
		log.Printf("allocated %s", ids)
		response.ContainerResponses = append(response.ContainerResponses, &api.ContainerAllocateResponse{
			Envs: map[string]string{"NVIDIA_VISIBLE_DEVICES": ids},
		})
	}
	return response, nil
}
