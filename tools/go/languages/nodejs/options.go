package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/google/shlex"
	"github.com/pulumi/pulumi/sdk/v3/nodejs/npm"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
)

// options are the `runtime.options` of Pulumi.yaml, PulumiPlugin.yaml or PulumiPolicy.yaml.
type options struct {
	typescript     bool
	tsconfig       string
	nodeargs       []string
	packagemanager npm.PackageManagerType
	production     bool
}

func parseOptions(info *pulumirpc.ProgramInfo) (options, error) {
	raw := info.GetOptions().AsMap()
	parsed := options{typescript: true, packagemanager: npm.AutoPackageManager}
	text := func(key string) (string, error) {
		value, given := raw[key]
		word, isText := value.(string)
		if given && !isText {
			return "", fmt.Errorf("runtime option %q must be a string", key)
		}
		return word, nil
	}
	flag := func(key string, target *bool) error {
		value, given := raw[key]
		if !given {
			return nil
		}
		truth, isBool := value.(bool)
		if !isBool {
			return fmt.Errorf("runtime option %q must be a boolean", key)
		}
		*target = truth
		return nil
	}
	nodeargs, err := text("nodeargs")
	tsconfig, tsconfigErr := text("tsconfig")
	manager, managerErr := text("packagemanager")
	err = errors.Join(err, tsconfigErr, managerErr, flag("typescript", &parsed.typescript), flag("production", &parsed.production))
	if err != nil {
		return parsed, err
	}
	parsed.tsconfig = tsconfig
	if manager != "" {
		parsed.packagemanager = npm.PackageManagerType(manager)
	}
	parsed.nodeargs, err = shlex.Split(nodeargs)
	return parsed, err
}

// environment tells the SDK's own launchers how to load TypeScript.
func (o options) environment() []string {
	var variables []string
	if o.typescript {
		variables = append(variables, "PULUMI_NODEJS_TYPESCRIPT=true")
	}
	if o.tsconfig != "" {
		variables = append(variables, "PULUMI_NODEJS_TSCONFIG_PATH="+o.tsconfig)
	}
	return variables
}

// locate resolves a module the way Node would from the program's folder.
func locate(ctx context.Context, node, module, directory string) (string, error) {
	cmd := exec.CommandContext(ctx, node, "-p", "require.resolve('"+module+"')")
	cmd.Dir = directory
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: @pulumi/pulumi is not installed; run npm install there", directory)
	}
	return strings.TrimSpace(string(out)), nil
}
