package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"

	"github.com/pulumi/pulumi/sdk/v3"
	"github.com/pulumi/pulumi/sdk/v3/go/common/apitype"
	"github.com/pulumi/pulumi/sdk/v3/go/common/util/rpcutil"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
)

// RunPlugin runs a policy pack, or a provider written in TypeScript, for as long as the engine wants it.
func (h *nodeHost) RunPlugin(req *pulumirpc.RunPluginRequest, server pulumirpc.LanguageRuntime_RunPluginServer) error {
	closer, stdout, stderr, err := rpcutil.MakeRunPluginStreams(server, false)
	if err != nil {
		return err
	}
	defer closer.Close()
	ctx := server.Context()
	node, err := exec.LookPath("node")
	if err != nil {
		return fmt.Errorf("node is not on PATH: %w", err)
	}
	opts, err := parseOptions(req.Info)
	if err != nil {
		return err
	}
	environment := append(append([]string{}, req.Env...), opts.environment()...)
	if req.Kind == string(apitype.AnalyzerPlugin) {
		err = runPolicyPack(ctx, node, opts, environment, req, stdout, stderr)
	} else {
		err = runPlugin(ctx, node, opts, environment, req, stdout, stderr)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("plug-in %s exited with code %d", req.Name, exit.ExitCode())
	}
	return err
}

func runPlugin(
	ctx context.Context, node string, opts options, environment []string,
	req *pulumirpc.RunPluginRequest, stdout, stderr io.Writer,
) error {
	launcher, err := locate(ctx, node, "@pulumi/pulumi/cmd/run-plugin", req.Info.ProgramDirectory)
	if err != nil {
		return err
	}
	args := append(append(opts.nodeargs, launcher, req.Info.ProgramDirectory), req.Args...)
	cmd := exec.CommandContext(ctx, node, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = req.Pwd, environment, stdout, stderr
	return cmd.Run()
}

// runPolicyPack stands between the engine, which sends a stack's configuration by call, and the policy SDK, which reads
// it from the environment when it starts. The SDK also wants its folder last, and to run there.
func runPolicyPack(
	ctx context.Context, node string, opts options, environment []string,
	req *pulumirpc.RunPluginRequest, stdout, stderr io.Writer,
) error {
	launcher, err := locate(ctx, node, "@pulumi/pulumi/cmd/run-policy-pack", req.Info.ProgramDirectory)
	if err != nil {
		return err
	}
	proxy, packOutput, err := sdk.NewPolicyProxy(ctx, stdout)
	if err != nil {
		return fmt.Errorf("could not start the policy pack's proxy: %w", err)
	}
	stack, err := proxy.AwaitConfiguration(ctx)
	if err != nil {
		return fmt.Errorf("could not get the stack's configuration: %w", err)
	}
	if stack != nil {
		values, err := json.Marshal(stack.Config)
		if err != nil {
			return err
		}
		environment = append(environment,
			"PULUMI_NODEJS_ORGANIZATION="+stack.Organization, "PULUMI_NODEJS_PROJECT="+stack.Project,
			"PULUMI_NODEJS_STACK="+stack.Stack, "PULUMI_NODEJS_DRY_RUN="+strconv.FormatBool(stack.DryRun))
		if stack.Config != nil {
			environment = append(environment, "PULUMI_CONFIG="+string(values))
		}
	}
	args := append(append(append(opts.nodeargs, launcher), req.Args...), req.Info.ProgramDirectory)
	cmd := exec.CommandContext(ctx, node, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = req.Info.ProgramDirectory, environment, packOutput, stderr
	if err := cmd.Start(); err != nil {
		proxy.Abort(err)
		return err
	}
	return proxy.Attach(ctx, cmd)
}
