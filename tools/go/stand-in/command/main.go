// pulumi-resource-command (stand-in) serves command:local:Command of @pulumi/command where the real plug-in cannot be
// downloaded: its module is not served either. It runs the same commands with the same inputs, outputs and
// environment. What it lacks, it refuses by name: assetPaths, archivePaths, command:local:run and command:remote.
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	provider "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/infer"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// version is that of the plug-in it stands in for; the build metadata says that it is not that plug-in.
const version = "1.2.1+stand-in"

type Command struct{}

func (c *Command) Annotate(a infer.Annotator) { a.SetToken("local", "Command") }

type Inputs struct {
	Create                 *string            `pulumi:"create,optional"`
	Update                 *string            `pulumi:"update,optional"`
	Delete                 *string            `pulumi:"delete,optional"`
	Triggers               *[]any             `pulumi:"triggers,optional" provider:"replaceOnChanges"`
	Interpreter            *[]string          `pulumi:"interpreter,optional"`
	Dir                    *string            `pulumi:"dir,optional"`
	Environment            *map[string]string `pulumi:"environment,optional"`
	Stdin                  *string            `pulumi:"stdin,optional"`
	Logging                *string            `pulumi:"logging,optional"`
	AddPreviousOutputInEnv *bool              `pulumi:"addPreviousOutputInEnv,optional"`
	AssetPaths             *[]string          `pulumi:"assetPaths,optional"`
	ArchivePaths           *[]string          `pulumi:"archivePaths,optional"`
}

type State struct {
	Inputs
	Stdout string `pulumi:"stdout"`
	Stderr string `pulumi:"stderr"`
}

func (c *Command) Check(ctx context.Context, req infer.CheckRequest) (infer.CheckResponse[Inputs], error) {
	inputs, failures, err := infer.DefaultCheck[Inputs](ctx, req.NewInputs)
	refuse := func(property, reason string) {
		failures = append(failures, provider.CheckFailure{Property: property, Reason: reason})
	}
	if inputs.AssetPaths != nil {
		refuse("assetPaths", "the stand-in for the command plug-in has no assets; install the real plug-in")
	}
	if inputs.ArchivePaths != nil {
		refuse("archivePaths", "the stand-in for the command plug-in has no archives; install the real plug-in")
	}
	switch logging := inputs.Logging; {
	case logging == nil, *logging == "stdout", *logging == "stderr", *logging == "stdoutAndStderr", *logging == "none":
	default:
		refuse("logging", "must be stdout, stderr, stdoutAndStderr or none")
	}
	return infer.CheckResponse[Inputs]{Inputs: inputs, Failures: failures}, err
}

func (c *Command) Create(ctx context.Context, req infer.CreateRequest[Inputs]) (infer.CreateResponse[State], error) {
	state := State{Inputs: req.Inputs}
	id, err := resource.NewUniqueHex(req.Name, 8, 0)
	if err == nil && !req.DryRun {
		err = state.run(ctx, req.Inputs.Create)
	}
	return infer.CreateResponse[State]{ID: id, Output: state}, err
}

func (c *Command) Update(
	ctx context.Context, req infer.UpdateRequest[Inputs, State],
) (infer.UpdateResponse[State], error) {
	state := State{Inputs: req.Inputs, Stdout: req.State.Stdout, Stderr: req.State.Stderr}
	if req.DryRun {
		return infer.UpdateResponse[State]{Output: state}, nil
	}
	command := req.Inputs.Update
	if command == nil {
		command = req.Inputs.Create
	}
	return infer.UpdateResponse[State]{Output: state}, state.run(ctx, command)
}

func (c *Command) Delete(ctx context.Context, req infer.DeleteRequest[State]) (infer.DeleteResponse, error) {
	return infer.DeleteResponse{}, req.State.run(ctx, req.State.Delete)
}

func (s *State) run(ctx context.Context, command *string) error {
	if command == nil {
		return nil
	}
	interpreter := []string{"/bin/sh", "-c"}
	if s.Interpreter != nil && len(*s.Interpreter) > 0 {
		interpreter = *s.Interpreter
	}
	cmd := exec.CommandContext(ctx, interpreter[0], append(interpreter[1:len(interpreter):len(interpreter)], *command)...)
	if s.Dir != nil {
		cmd.Dir = *s.Dir
	}
	cmd.Env = s.environment()
	if s.Stdin != nil {
		cmd.Stdin = strings.NewReader(*s.Stdin)
	}
	logging := "stdoutAndStderr"
	if s.Logging != nil {
		logging = *s.Logging
	}
	var stdout, stderr bytes.Buffer
	both := &logger{ctx: ctx} // one logger: its lock also keeps the two streams' lines apart
	cmd.Stdout = stream(&stdout, both, logging == "stdout" || logging == "stdoutAndStderr")
	cmd.Stderr = stream(&stderr, both, logging == "stderr" || logging == "stdoutAndStderr")
	err := cmd.Run()
	both.flush()
	if err != nil {
		return fmt.Errorf("%w: running %q:\n%s%s", err, *command, stdout.String(), stderr.String())
	}
	s.Stdout, s.Stderr = strings.TrimSuffix(stdout.String(), "\n"), strings.TrimSuffix(stderr.String(), "\n")
	return nil
}

func (s *State) environment() []string {
	variables := os.Environ()
	if s.Environment != nil {
		for name, value := range *s.Environment {
			variables = append(variables, name+"="+value)
		}
	}
	if s.AddPreviousOutputInEnv != nil && !*s.AddPreviousOutputInEnv {
		return variables
	}
	if s.Stdout != "" {
		variables = append(variables, "PULUMI_COMMAND_STDOUT="+s.Stdout)
	}
	if s.Stderr != "" {
		variables = append(variables, "PULUMI_COMMAND_STDERR="+s.Stderr)
	}
	return variables
}

func stream(kept io.Writer, log io.Writer, logged bool) io.Writer {
	if logged {
		return io.MultiWriter(kept, log)
	}
	return kept
}

func main() {
	built, err := infer.NewProviderBuilder().
		WithResources(infer.Resource(&Command{})).
		WithDisplayName("Command (stand-in)").
		WithDescription("A stand-in for the command plug-in, for machines that cannot download it.").
		Build()
	if err == nil {
		err = built.Run(context.Background(), "command", version)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "pulumi-resource-command (stand-in):", err)
		os.Exit(1)
	}
}
