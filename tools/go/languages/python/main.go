// pulumi-language-python is a Python language host of Pulumi; see package host. Programs run by the official launcher, and
// environments are made and read by the official toolchain package; both lie in Pulumi's SDK module.
package main

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"gh200-vllm/tools/languages/internal/host"

	"github.com/pulumi/pulumi/pkg/v3/codegen/python"
	"github.com/pulumi/pulumi/pkg/v3/codegen/schema"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"github.com/pulumi/pulumi/sdk/v3/python/toolchain"
)

// launcher is laid over this folder from Pulumi's SDK module when the host is built.
//
//go:embed pulumi-language-python-exec
var launcher string

type pythonHost struct{ *host.Base }

func main() {
	host.Main(func(base *host.Base) pulumirpc.LanguageRuntimeServer { return &pythonHost{base} },
		"virtualenv", "toolchain", "typechecker")
}

// environment is the program's Python; of the runtime options it reads `virtualenv`.
func environment(info *pulumirpc.ProgramInfo) (toolchain.Toolchain, error) {
	virtualenv, _ := info.GetOptions().AsMap()["virtualenv"].(string)
	return toolchain.ResolveToolchain(toolchain.PythonOptions{
		Root: info.RootDirectory, ProgramDir: info.ProgramDirectory, Virtualenv: virtualenv,
	})
}

func (h *pythonHost) Run(ctx context.Context, req *pulumirpc.RunRequest) (*pulumirpc.RunResponse, error) {
	folder, err := os.MkdirTemp("", "pulumi-language-python-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	file := filepath.Join(folder, "pulumi-language-python-exec")
	if err := os.WriteFile(file, []byte(launcher), 0o600); err != nil {
		return nil, err
	}
	return h.RunProgram(ctx, req, func(running context.Context) (*exec.Cmd, error) {
		own, err := environment(req.Info)
		if err != nil {
			return nil, err
		}
		if err := own.ValidateVenv(ctx); err != nil {
			return nil, err
		}
		return own.Command(running, append([]string{"-u", file}, launcherArguments(h.Engine, req)...)...)
	})
}

func launcherArguments(engine string, req *pulumirpc.RunRequest) []string {
	args := []string{
		"--monitor", req.MonitorAddress, "--engine", engine, "--organization", req.Organization, "--project", req.Project,
		"--root_directory", req.Info.RootDirectory, "--stack", req.Stack, "--pwd", req.Info.ProgramDirectory,
		"--parallel", strconv.Itoa(int(req.Parallel)), "--dry_run", strconv.FormatBool(req.DryRun),
	}
	return append(append(args, filepath.Join(req.Info.ProgramDirectory, req.Info.EntryPoint)), req.Args...)
}

// GetRequiredPackages finds the provider SDKs of the environment by the file that each carries.
func (h *pythonHost) GetRequiredPackages(
	ctx context.Context, req *pulumirpc.GetRequiredPackagesRequest,
) (*pulumirpc.GetRequiredPackagesResponse, error) {
	own, err := environment(req.Info)
	if err != nil {
		return nil, err
	}
	if err := own.EnsureVenv(ctx, req.Info.ProgramDirectory, false, false, os.Stderr, os.Stderr); err != nil {
		return nil, err
	}
	cmd, err := own.Command(ctx, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
	if err != nil {
		return nil, err
	}
	folder, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("could not ask Python for its packages: %w", err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(folder)), "*", "pulumi-plugin.json"))
	if err != nil {
		return nil, err
	}
	response := &pulumirpc.GetRequiredPackagesResponse{}
	for _, file := range files {
		info, err := plugin.LoadPulumiPluginJSON(file)
		if err != nil {
			return nil, err
		}
		if dependency := host.Dependency(info, info.Name, info.Version); dependency != nil {
			response.Packages = append(response.Packages, dependency)
		}
	}
	return response, nil
}

func (h *pythonHost) InstallDependencies(
	req *pulumirpc.InstallDependenciesRequest, server pulumirpc.LanguageRuntime_InstallDependenciesServer,
) error {
	own, err := environment(req.Info)
	if err != nil {
		return err
	}
	return host.Install(req, server, func(stdout, stderr io.Writer) error {
		return own.InstallDependencies(server.Context(), req.Info.ProgramDirectory, req.UseLanguageVersionTools, true, stdout, stderr)
	})
}

func (h *pythonHost) GetProgramDependencies(
	ctx context.Context, req *pulumirpc.GetProgramDependenciesRequest,
) (*pulumirpc.GetProgramDependenciesResponse, error) {
	own, err := environment(req.Info)
	if err != nil {
		return nil, err
	}
	listed, err := own.ListPackages(ctx, req.TransitiveDependencies)
	if err != nil {
		return nil, err
	}
	response := &pulumirpc.GetProgramDependenciesResponse{}
	for _, dependency := range listed {
		response.Dependencies = append(response.Dependencies,
			&pulumirpc.DependencyInfo{Name: dependency.Name, Version: dependency.Version})
	}
	return response, nil
}

func (h *pythonHost) About(ctx context.Context, req *pulumirpc.AboutRequest) (*pulumirpc.AboutResponse, error) {
	own, err := environment(req.Info)
	if err != nil {
		return nil, err
	}
	info, err := own.About(ctx)
	if err != nil {
		return nil, err
	}
	return &pulumirpc.AboutResponse{Executable: info.PythonExecutable, Version: info.PythonVersion.String()}, nil
}

func (h *pythonHost) GeneratePackage(
	_ context.Context, req *pulumirpc.GeneratePackageRequest,
) (*pulumirpc.GeneratePackageResponse, error) {
	return host.GeneratePackage(req, func(pkg *schema.Package, loader schema.ReferenceLoader) (map[string][]byte, error) {
		return python.GeneratePackage("pulumi-language-python", pkg, req.ExtraFiles, loader)
	})
}

// Link adds generated SDKs to the program's requirements.
func (h *pythonHost) Link(ctx context.Context, req *pulumirpc.LinkRequest) (*pulumirpc.LinkResponse, error) {
	own, err := environment(req.Info)
	if err != nil {
		return nil, err
	}
	return host.Link(ctx, req, func(pkg *schema.Package, path string) (string, error) {
		if err := pkg.ImportLanguages(map[string]schema.Language{"python": python.Importer}); err != nil {
			return "", err
		}
		module := python.PyPack(pkg.Namespace, pkg.Name)
		if info, ok := pkg.Language["python"].(python.PackageInfo); ok && info.PackageName != "" {
			module = info.PackageName
		}
		return "import " + module, own.LinkPackages(ctx, map[string]string{module: path})
	})
}
