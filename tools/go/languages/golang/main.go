// pulumi-language-go is a Go language host of Pulumi; see package host.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"gh200-vllm/tools/languages/internal/host"

	gocode "github.com/pulumi/pulumi/pkg/v3/codegen/go"
	"github.com/pulumi/pulumi/pkg/v3/codegen/schema"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
)

type goHost struct{ *host.Base }

func main() {
	host.Main(func(base *host.Base) pulumirpc.LanguageRuntimeServer { return &goHost{base} }, "binary", "buildTarget")
}

// Run builds the program and runs it.
func (h *goHost) Run(ctx context.Context, req *pulumirpc.RunRequest) (*pulumirpc.RunResponse, error) {
	folder, err := os.MkdirTemp("", "pulumi-language-go-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	return h.RunProgram(ctx, req, func(running context.Context) (*exec.Cmd, error) {
		binary := filepath.Join(folder, "program")
		if _, err := goCommand(ctx, req.Info.ProgramDirectory, "build", "-o", binary, req.Info.EntryPoint); err != nil {
			return nil, err
		}
		cmd := exec.CommandContext(running, binary, req.Args...)
		cmd.Dir = req.Info.ProgramDirectory
		cmd.Env = append(os.Environ(),
			pulumi.EnvOrganization+"="+req.Organization, pulumi.EnvProject+"="+req.Project, pulumi.EnvStack+"="+req.Stack,
			pulumi.EnvPulumiRootDirectory+"="+req.Info.RootDirectory, pulumi.EnvMonitor+"="+req.MonitorAddress,
			pulumi.EnvEngine+"="+h.Engine, pulumi.EnvDryRun+"="+strconv.FormatBool(req.DryRun),
			pulumi.EnvParallel+"="+strconv.Itoa(int(req.Parallel)))
		return cmd, nil
	})
}

// goCommand answers what the go command printed; what it complained of is the error.
func goCommand(ctx context.Context, folder string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = folder
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w\n%s", args[0], err, complaint.String())
	}
	return out, nil
}

type module struct {
	Path, Version, Dir string
}

func modules(ctx context.Context, folder, list string) ([]module, error) {
	out, err := goCommand(ctx, folder, "list", "-mod=mod", "-m", "-json", list)
	if err != nil {
		return nil, err
	}
	var all []module
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var next module
		err := decoder.Decode(&next)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		all = append(all, next)
	}
}

// GetRequiredPackages finds the provider SDKs among the program's modules by the file that each carries.
func (h *goHost) GetRequiredPackages(
	ctx context.Context, req *pulumirpc.GetRequiredPackagesRequest,
) (*pulumirpc.GetRequiredPackagesResponse, error) {
	all, err := modules(ctx, req.Info.ProgramDirectory, "all")
	if err != nil {
		return nil, err
	}
	response := &pulumirpc.GetRequiredPackagesResponse{}
	for _, sdk := range all {
		if sdk.Dir == "" {
			continue
		}
		for _, place := range []string{"*", "go/*"} {
			files, err := filepath.Glob(filepath.Join(sdk.Dir, place, "pulumi-plugin.json"))
			if err != nil {
				return nil, err
			}
			for _, file := range files {
				info, err := plugin.LoadPulumiPluginJSON(file)
				if err != nil {
					return nil, err
				}
				if dependency := host.Dependency(info, filepath.Base(filepath.Dir(file)), sdk.Version); dependency != nil {
					response.Packages = append(response.Packages, dependency)
				}
			}
		}
	}
	return response, nil
}

func (h *goHost) InstallDependencies(
	req *pulumirpc.InstallDependenciesRequest, server pulumirpc.LanguageRuntime_InstallDependenciesServer,
) error {
	return host.Install(req, server, func(stdout, stderr io.Writer) error {
		cmd := exec.CommandContext(server.Context(), "go", "mod", "tidy")
		cmd.Dir, cmd.Stdout, cmd.Stderr = req.Info.ProgramDirectory, stdout, stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("go mod tidy: %w", err)
		}
		return nil
	})
}

func (h *goHost) GetProgramDependencies(
	ctx context.Context, req *pulumirpc.GetProgramDependenciesRequest,
) (*pulumirpc.GetProgramDependenciesResponse, error) {
	all, err := modules(ctx, req.Info.ProgramDirectory, "all")
	if err != nil {
		return nil, err
	}
	response := &pulumirpc.GetProgramDependenciesResponse{}
	for _, dependency := range all {
		response.Dependencies = append(response.Dependencies,
			&pulumirpc.DependencyInfo{Name: dependency.Path, Version: dependency.Version})
	}
	return response, nil
}

func (h *goHost) About(ctx context.Context, req *pulumirpc.AboutRequest) (*pulumirpc.AboutResponse, error) {
	path, err := exec.LookPath("go")
	if err != nil {
		return nil, err
	}
	version, err := goCommand(ctx, "", "env", "GOVERSION")
	if err != nil {
		return nil, err
	}
	return &pulumirpc.AboutResponse{Executable: path, Version: strings.TrimSpace(string(version))}, nil
}

func (h *goHost) GeneratePackage(
	_ context.Context, req *pulumirpc.GeneratePackageRequest,
) (*pulumirpc.GeneratePackageResponse, error) {
	return host.GeneratePackage(req, func(pkg *schema.Package, _ schema.ReferenceLoader) (map[string][]byte, error) {
		return gocode.GeneratePackage("pulumi-language-go", pkg, req.LocalDependencies)
	})
}

// Link replaces the generated SDK's module by its folder.
func (h *goHost) Link(ctx context.Context, req *pulumirpc.LinkRequest) (*pulumirpc.LinkResponse, error) {
	return host.Link(ctx, req, func(pkg *schema.Package, path string) (string, error) {
		if err := pkg.ImportLanguages(map[string]schema.Language{"go": gocode.Importer}); err != nil {
			return "", err
		}
		pkg.SupportPack = true // which `package add` turns on when it generates the SDK
		modulePath, importPath, err := gocode.ModuleAndImportPath(pkg)
		if err != nil {
			return "", err
		}
		_, err = goCommand(ctx, req.Info.ProgramDirectory, "mod", "edit",
			"-require="+modulePath+"@v0.0.0-00010101000000-000000000000", "-replace="+modulePath+"=./"+filepath.ToSlash(path))
		return fmt.Sprintf("import %q", importPath), err
	})
}
