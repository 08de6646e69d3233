package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/config"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
)

// exitAlreadyReported is how the SDK's launcher says that the user has seen the error.
const exitAlreadyReported = 32

func (h *host) Run(ctx context.Context, req *pulumirpc.RunRequest) (*pulumirpc.RunResponse, error) {
	bail, err := h.runProgram(ctx, req)
	if err != nil {
		return &pulumirpc.RunResponse{Error: err.Error()}, nil
	}
	return &pulumirpc.RunResponse{Bail: bail}, nil
}

func (h *host) runProgram(ctx context.Context, req *pulumirpc.RunRequest) (bail bool, err error) {
	opts, err := parseOptions(req.Info)
	if err != nil {
		return false, err
	}
	node, err := exec.LookPath("node")
	if err != nil {
		return false, fmt.Errorf("node is not on PATH: %w", err)
	}
	launcher, err := locate(ctx, node, "@pulumi/pulumi/cmd/run", req.Info.ProgramDirectory)
	if err != nil {
		return false, err
	}
	values, err := programConfig(req.Config)
	if err != nil {
		return false, err
	}
	secretKeys, err := json.Marshal(append([]string{}, req.ConfigSecretKeys...))
	if err != nil {
		return false, err
	}

	running, stop := context.WithCancel(h.canceled)
	defer context.AfterFunc(ctx, stop)()
	cmd := exec.CommandContext(running, node, append(opts.nodeargs, launcherArguments(launcher, h.engine, req)...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	// Behind plain writers: Node may switch a descriptor it is handed to non-blocking, and then our own writes fail.
	cmd.Stdout, cmd.Stderr = struct{ io.Writer }{os.Stdout}, struct{ io.Writer }{os.Stderr}
	cmd.Env = append(os.Environ(), "PULUMI_CONFIG="+values, "PULUMI_CONFIG_SECRET_KEYS="+string(secretKeys))
	cmd.Env = append(cmd.Env, opts.environment()...)

	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return false, nil
	case !errors.As(err, &exit):
		return false, fmt.Errorf("could not run the program: %w", err)
	case exit.ExitCode() == exitAlreadyReported:
		return true, nil
	case exit.ExitCode() < 0:
		return false, fmt.Errorf("the program was ended by %s (out of memory? see runtime option nodeargs)", exit)
	}
	return false, fmt.Errorf("the program exited with code %d", exit.ExitCode())
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

// programConfig writes keys in the form `package:config:name`, which every SDK version reads.
func programConfig(values map[string]string) (string, error) {
	keyed := make(map[string]string, len(values))
	for name, value := range values {
		key, err := config.ParseKey(name)
		if err != nil {
			return "", err
		}
		keyed[key.Namespace()+":config:"+key.Name()] = value
	}
	text, err := json.Marshal(keyed)
	return string(text), err
}
