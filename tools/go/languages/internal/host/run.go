package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
)

// exitAlreadyReported is how an SDK's launcher says that the user has seen the error.
const exitAlreadyReported = 32

// RunProgram runs the program's command, as `prepare` makes it, with the stack's configuration in its environment.
func (b *Base) RunProgram(
	ctx context.Context, req *pulumirpc.RunRequest, prepare func(context.Context) (*exec.Cmd, error),
) (*pulumirpc.RunResponse, error) {
	running, stop := context.WithCancel(b.Canceled)
	defer context.AfterFunc(ctx, stop)()
	cmd, err := prepare(running)
	if err == nil {
		err = addConfig(cmd, req)
	}
	if err != nil {
		return &pulumirpc.RunResponse{Error: err.Error()}, nil
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	// Behind plain writers: Node may switch a descriptor it is handed to non-blocking, and then our own writes fail.
	cmd.Stdout, cmd.Stderr = struct{ io.Writer }{os.Stdout}, struct{ io.Writer }{os.Stderr}
	return response(cmd.Run()), nil
}

func addConfig(cmd *exec.Cmd, req *pulumirpc.RunRequest) error {
	config := req.Config
	if config == nil {
		config = map[string]string{} // Python's SDK does not read null
	}
	values, err := json.Marshal(config)
	if err != nil {
		return err
	}
	secretKeys, err := json.Marshal(append([]string{}, req.ConfigSecretKeys...))
	if err != nil {
		return err
	}
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, "PULUMI_CONFIG="+string(values), "PULUMI_CONFIG_SECRET_KEYS="+string(secretKeys))
	return nil
}

func response(err error) *pulumirpc.RunResponse {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return &pulumirpc.RunResponse{}
	case !errors.As(err, &exit):
		return &pulumirpc.RunResponse{Error: fmt.Sprintf("could not run the program: %s", err)}
	case exit.ExitCode() == exitAlreadyReported:
		return &pulumirpc.RunResponse{Bail: true}
	case exit.ExitCode() < 0:
		return &pulumirpc.RunResponse{Error: fmt.Sprintf("the program was ended by %s; out of memory?", exit)}
	}
	return &pulumirpc.RunResponse{Error: fmt.Sprintf("the program exited with code %d", exit.ExitCode())}
}
