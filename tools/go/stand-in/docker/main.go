// pulumi-resource-docker (stand-in) serves docker:index/buildxBuilder:BuildxBuilder of @pulumi/docker with the remote
// driver, where the real plug-in cannot be downloaded: its module is not served either. It runs the buildx CLI to
// create and remove the builder. Other resources and drivers of the plug-in it refuses by name.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"

	provider "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/infer"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// version is that of the plug-in it stands in for; the build metadata says that it is not that plug-in.
const version = "5.2.0+stand-in"

type BuildxBuilder struct{}

func (b *BuildxBuilder) Annotate(a infer.Annotator) {
	a.SetToken("index/buildxBuilder", "BuildxBuilder")
}

type Remote struct {
	Cacert      *string `pulumi:"cacert,optional"`
	Cert        *string `pulumi:"cert,optional"`
	Key         *string `pulumi:"key,optional"`
	Servername  *string `pulumi:"servername,optional"`
	DefaultLoad *bool   `pulumi:"defaultLoad,optional"`
}

// As with the real plug-in, a builder is never changed in place.
type Inputs struct {
	Name          *string            `pulumi:"name,optional" provider:"replaceOnChanges"`
	Endpoint      *string            `pulumi:"endpoint,optional" provider:"replaceOnChanges"`
	Driver        *string            `pulumi:"driver,optional" provider:"replaceOnChanges"`
	DriverOptions *map[string]string `pulumi:"driverOptions,optional" provider:"replaceOnChanges"`
	Platforms     *[]string          `pulumi:"platforms,optional" provider:"replaceOnChanges"`
	Remote        *Remote            `pulumi:"remote,optional" provider:"replaceOnChanges"`
	Node          *string            `pulumi:"node,optional" provider:"replaceOnChanges"`
	Bootstrap     *bool              `pulumi:"bootstrap,optional" provider:"replaceOnChanges"`
	Use           *bool              `pulumi:"use,optional" provider:"replaceOnChanges"`
}

type State struct {
	Inputs
}

func (b *BuildxBuilder) Check(ctx context.Context, req infer.CheckRequest) (infer.CheckResponse[Inputs], error) {
	inputs, failures, err := infer.DefaultCheck[Inputs](ctx, req.NewInputs)
	refuse := func(property, reason string) {
		failures = append(failures, provider.CheckFailure{Property: property, Reason: reason})
	}
	if inputs.Name == nil && err == nil {
		name := req.OldInputs.Get("name")
		chosen := name.IsString()
		generated := ""
		if chosen {
			generated = name.AsString()
		} else if generated, err = resource.NewUniqueHex(req.Name+"-", 7, 0); err != nil {
			return infer.CheckResponse[Inputs]{}, err
		}
		inputs.Name = &generated
	}
	if inputs.Remote != nil && inputs.Driver != nil {
		refuse("driver", "conflicts with remote")
	}
	if inputs.Remote == nil && (inputs.Driver == nil || *inputs.Driver != "remote") {
		refuse("remote", "the stand-in for the docker plug-in has the remote driver only; install the real plug-in")
	}
	if inputs.Endpoint == nil {
		refuse("endpoint", "the remote driver needs an endpoint, such as tcp://builder:1234")
	}
	return infer.CheckResponse[Inputs]{Inputs: inputs, Failures: failures}, err
}

func (b *BuildxBuilder) Create(
	ctx context.Context, req infer.CreateRequest[Inputs],
) (infer.CreateResponse[State], error) {
	created := infer.CreateResponse[State]{ID: *req.Inputs.Name, Output: State{req.Inputs}}
	if req.DryRun {
		return created, nil
	}
	return created, buildx(ctx, createArguments(req.Inputs)...)
}

// Read says a builder is gone when this machine's buildx does not know it, so that a refresh makes it again.
func (b *BuildxBuilder) Read(
	ctx context.Context, req infer.ReadRequest[Inputs, State],
) (infer.ReadResponse[Inputs, State], error) {
	if buildx(ctx, "inspect", req.ID) != nil {
		return infer.ReadResponse[Inputs, State]{}, nil
	}
	return infer.ReadResponse[Inputs, State]{ID: req.ID, Inputs: req.Inputs, State: req.State}, nil
}

func (b *BuildxBuilder) Delete(ctx context.Context, req infer.DeleteRequest[State]) (infer.DeleteResponse, error) {
	return infer.DeleteResponse{}, buildx(ctx, "rm", "--force", req.ID)
}

func createArguments(in Inputs) []string {
	args := []string{"create", "--name", *in.Name, "--driver", "remote"}
	if in.Node != nil {
		args = append(args, "--node", *in.Node)
	}
	if in.Platforms != nil {
		args = append(args, "--platform", strings.Join(*in.Platforms, ","))
	}
	option := func(name string, value *string) {
		if value != nil {
			args = append(args, "--driver-opt", name+"="+*value)
		}
	}
	if in.DriverOptions != nil {
		for name, value := range *in.DriverOptions {
			option(name, &value)
		}
	}
	if remote := in.Remote; remote != nil {
		option("cacert", remote.Cacert)
		option("cert", remote.Cert)
		option("key", remote.Key)
		option("servername", remote.Servername)
		if remote.DefaultLoad != nil {
			load := fmt.Sprint(*remote.DefaultLoad)
			option("default-load", &load)
		}
	}
	if in.Bootstrap != nil && *in.Bootstrap {
		args = append(args, "--bootstrap")
	}
	if in.Use != nil && *in.Use {
		args = append(args, "--use")
	}
	return append(args, *in.Endpoint)
}

// buildx runs the standalone binary where there is one, else the plug-in of the docker CLI.
func buildx(ctx context.Context, args ...string) error {
	program := "buildx"
	if _, err := exec.LookPath(program); err != nil {
		program, args = "docker", append([]string{"buildx"}, args...)
	}
	output, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", program, strings.Join(args, " "), err, output)
	}
	return nil
}

func main() {
	built, err := infer.NewProviderBuilder().
		WithResources(infer.Resource(&BuildxBuilder{})).
		WithDisplayName("Docker (stand-in)").
		WithDescription("A stand-in for the docker plug-in, for machines that cannot download it.").
		Build()
	if err == nil {
		err = built.Run(context.Background(), "docker", version)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "pulumi-resource-docker (stand-in):", err)
		os.Exit(1)
	}
}
