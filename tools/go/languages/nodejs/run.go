package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"

	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
)

func (h *nodeHost) Run(ctx context.Context, req *pulumirpc.RunRequest) (*pulumirpc.RunResponse, error) {
	return h.RunProgram(ctx, req, func(running context.Context) (*exec.Cmd, error) {
		opts, err := parseOptions(req.Info)
		if err != nil {
			return nil, err
		}
		node, err := exec.LookPath("node")
		if err != nil {
			return nil, fmt.Errorf("node is not on PATH: %w", err)
		}
		launcher, err := locate(ctx, node, "@pulumi/pulumi/cmd/run", req.Info.ProgramDirectory)
		if err != nil {
			return nil, err
		}
		cmd := exec.CommandContext(running, node, append(opts.nodeargs, launcherArguments(launcher, h.Engine, req)...)...)
		cmd.Env = append(os.Environ(), opts.environment()...)
		return cmd, nil
	})
}

func launcherArguments(launcher, engine string, req *pulumirpc.RunRequest) []string {
	args := []string{launcher}
	for _, flag := range [][2]string{
		{"monitor", req.MonitorAddress}, {"engine", engine}, {"organization", req.Organization},
		{"project", req.Project}, {"root-directory", req.Info.RootDirectory}, {"stack", req.Stack},
		{"pwd", req.Info.ProgramDirectory}, {"parallel", strconv.Itoa(int(req.Parallel))},
	} {
		if flag[1] != "" {
			args = append(args, "--"+flag[0], flag[1])
		}
	}
	if req.DryRun {
		args = append(args, "--dry-run")
	}
	return append(append(args, req.Info.EntryPoint), req.Args...)
}
