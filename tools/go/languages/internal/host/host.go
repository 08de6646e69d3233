// Package host is what Pulumi's language hosts here have in common. They are for machines that cannot download the
// official ones, whose modules are not served, and serve what this project uses: programs, policy packs, source plug-ins,
// package listing, installation, SDK generation and linking. A method that they lack answers Unimplemented.
package host

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

// Base is embedded by the host of a language.
type Base struct {
	pulumirpc.UnimplementedLanguageRuntimeServer

	// Engine is the address of the engine's log service; empty until it is known.
	Engine string
	// Canceled ends when the engine calls off the program that runs.
	Canceled  context.Context
	cancelRun context.CancelFunc
}

// Main serves a language until the engine is gone. Flags are accepted for the sake of engines built before Pulumi 3.260,
// as the YAML host's is, which start a host with the project's runtime options; each call carries them too.
func Main(serve func(*Base) pulumirpc.LanguageRuntimeServer, runtimeOptions ...string) {
	for _, name := range append([]string{"tracing", "root"}, runtimeOptions...) {
		flag.String(name, "", "accepted for the engine's sake")
	}
	showVersion := flag.Bool("version", false, "print the version and exit")
	flag.Parse()
	if *showVersion {
		fmt.Println(version())
		return
	}
	logging.InitLogging(false, 0, false)

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	canceled, cancelRun := context.WithCancel(context.Background())
	base := &Base{Engine: flag.Arg(0), Canceled: canceled, cancelRun: cancelRun}
	if err := base.watchEngine(ctx, stop); err != nil {
		cmdutil.Exit(err)
	}
	done := make(chan bool)
	go func() { <-ctx.Done(); close(done) }()
	handle, err := rpcutil.ServeWithOptions(rpcutil.ServeOptions{
		Cancel: done,
		Init: func(registrar *grpc.Server) error {
			pulumirpc.RegisterLanguageRuntimeServer(registrar, serve(base))
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

func (b *Base) watchEngine(ctx context.Context, stop context.CancelFunc) error {
	if b.Engine == "" {
		return nil
	}
	if err := rpcutil.Healthcheck(ctx, b.Engine, healthTimeout, stop); err != nil {
		return fmt.Errorf("could not watch the engine: %w", err)
	}
	return nil
}

func (b *Base) Handshake(
	_ context.Context, req *pulumirpc.LanguageHandshakeRequest,
) (*pulumirpc.LanguageHandshakeResponse, error) {
	b.Engine = req.EngineAddress
	ctx, stop := context.WithCancel(context.Background())
	go func() { <-ctx.Done(); os.Exit(0) }()
	return &pulumirpc.LanguageHandshakeResponse{}, b.watchEngine(ctx, stop)
}

func (b *Base) GetPluginInfo(context.Context, *emptypb.Empty) (*pulumirpc.PluginInfo, error) {
	return &pulumirpc.PluginInfo{Version: version()}, nil
}

func (b *Base) Cancel(context.Context, *emptypb.Empty) (*emptypb.Empty, error) {
	b.cancelRun()
	return &emptypb.Empty{}, nil
}

func (b *Base) RuntimeOptionsPrompts(
	context.Context, *pulumirpc.RuntimeOptionsRequest,
) (*pulumirpc.RuntimeOptionsResponse, error) {
	return &pulumirpc.RuntimeOptionsResponse{}, nil
}

func (b *Base) Template(context.Context, *pulumirpc.TemplateRequest) (*pulumirpc.TemplateResponse, error) {
	return &pulumirpc.TemplateResponse{}, nil
}
