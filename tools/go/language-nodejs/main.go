// pulumi-language-nodejs is a Node.js language host of Pulumi for machines that cannot download the official one: its
// module is not served, and the last version that is (inside sdk v3.68.0) knows neither policy packs nor source plug-ins.
// It is written on the newest protocol and serves what this project uses: programs, policy packs, source plug-ins,
// package listing, installation, SDK generation and linking. A method it lacks answers Unimplemented.
//
// The official host puts a proxy between program and engine for synchronous invokes. @pulumi/pulumi 3.270.0 makes none,
// so here the program speaks to the engine directly: one hop less on every registration.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/util/cmdutil"
	"github.com/pulumi/pulumi/sdk/v3/go/common/util/logging"
	"github.com/pulumi/pulumi/sdk/v3/go/common/util/rpcutil"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
)

// healthTimeout is how long the engine may be gone before the host ends itself.
const healthTimeout = 5 * time.Minute

type host struct {
	pulumirpc.UnimplementedLanguageRuntimeServer

	engine    string
	canceled  context.Context
	cancelRun context.CancelFunc
}

func main() {
	flag.String("tracing", "", "accepted for the engine's sake; this host emits no traces")
	showVersion := flag.Bool("version", false, "print the version and exit")
	flag.Parse()
	if *showVersion {
		fmt.Println(version())
		return
	}
	logging.InitLogging(false, 0, false)

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	canceled, cancelRun := context.WithCancel(context.Background())
	server := &host{engine: flag.Arg(0), canceled: canceled, cancelRun: cancelRun}
	if err := server.watchEngine(ctx, stop); err != nil {
		cmdutil.Exit(err)
	}
	done := make(chan bool)
	go func() { <-ctx.Done(); close(done) }()
	handle, err := rpcutil.ServeWithOptions(rpcutil.ServeOptions{
		Cancel: done,
		Init: func(registrar *grpc.Server) error {
			pulumirpc.RegisterLanguageRuntimeServer(registrar, server)
			return nil
		},
	})
	if err != nil {
		cmdutil.Exit(fmt.Errorf("could not serve the language host: %w", err))
	}
	fmt.Println(handle.Port) // the engine reads its port from the first line
	if err := <-handle.Done; err != nil {
		cmdutil.Exit(fmt.Errorf("language host stopped serving: %w", err))
	}
}

// version is that of the Pulumi SDK the host is built on, so that it can never claim another.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if ok {
		for _, module := range info.Deps {
			if module.Path == "github.com/pulumi/pulumi/sdk/v3" {
				return module.Version
			}
		}
	}
	return ""
}

func (h *host) watchEngine(ctx context.Context, stop context.CancelFunc) error {
	if h.engine == "" {
		return nil
	}
	if err := rpcutil.Healthcheck(ctx, h.engine, healthTimeout, stop); err != nil {
		return fmt.Errorf("could not watch the engine: %w", err)
	}
	return nil
}

func (h *host) Handshake(
	_ context.Context, req *pulumirpc.LanguageHandshakeRequest,
) (*pulumirpc.LanguageHandshakeResponse, error) {
	h.engine = req.EngineAddress
	ctx, stop := context.WithCancel(context.Background())
	go func() { <-ctx.Done(); os.Exit(0) }()
	return &pulumirpc.LanguageHandshakeResponse{}, h.watchEngine(ctx, stop)
}

func (h *host) GetPluginInfo(context.Context, *emptypb.Empty) (*pulumirpc.PluginInfo, error) {
	return &pulumirpc.PluginInfo{Version: version()}, nil
}

func (h *host) Cancel(context.Context, *emptypb.Empty) (*emptypb.Empty, error) {
	h.cancelRun()
	return &emptypb.Empty{}, nil
}
