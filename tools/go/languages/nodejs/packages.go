package main

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"gh200-vllm/tools/languages/internal/host"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/nodejs/npm"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
)

type packageJSON struct {
	Name    string                  `json:"name"`
	Version string                  `json:"version"`
	Pulumi  plugin.PulumiPluginJSON `json:"pulumi"`
}

// GetRequiredPackages looks for provider SDKs where the program gets its Pulumi SDK from: in its own node_modules, or,
// in an npm workspace, in those of a folder above.
func (h *nodeHost) GetRequiredPackages(
	_ context.Context, req *pulumirpc.GetRequiredPackagesRequest,
) (*pulumirpc.GetRequiredPackagesResponse, error) {
	found := &packages{seen: map[string]bool{}}
	for dir := req.Info.ProgramDirectory; ; dir = filepath.Dir(dir) {
		modules := filepath.Join(dir, "node_modules")
		found.walk(modules)
		_, err := os.Stat(filepath.Join(modules, "@pulumi", "pulumi"))
		if err == nil || dir == filepath.Dir(dir) {
			return &pulumirpc.GetRequiredPackagesResponse{Packages: found.list}, nil
		}
	}
}

type packages struct {
	seen map[string]bool
	list []*pulumirpc.PackageDependency
}

// walk visits each package of a node_modules folder. What cannot be read is no provider SDK.
func (p *packages) walk(modules string) {
	entries, _ := os.ReadDir(modules)
	for _, entry := range entries {
		path := filepath.Join(modules, entry.Name())
		switch {
		case strings.HasPrefix(entry.Name(), "."):
		case strings.HasPrefix(entry.Name(), "@"):
			p.walk(path)
		default:
			p.visit(path)
		}
	}
}

func (p *packages) visit(path string) {
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil || p.seen[resolved] {
		return
	}
	p.seen[resolved] = true
	// A policy pack's dependencies are its own, not the program's.
	if _, err := os.Stat(filepath.Join(resolved, "PulumiPolicy.yaml")); err == nil {
		return
	}
	if dependency := readDependency(filepath.Join(resolved, "package.json")); dependency != nil {
		p.list = append(p.list, dependency)
	}
	p.walk(filepath.Join(resolved, "node_modules"))
}

func readDependency(path string) *pulumirpc.PackageDependency {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var info packageJSON
	if json.Unmarshal(text, &info) != nil {
		return nil
	}
	name := strings.TrimPrefix(strings.TrimPrefix(info.Name, "@pulumi/"), "@")
	return host.Dependency(&info.Pulumi, name, info.Version)
}

func (h *nodeHost) InstallDependencies(
	req *pulumirpc.InstallDependenciesRequest, server pulumirpc.LanguageRuntime_InstallDependenciesServer,
) error {
	opts, err := parseOptions(req.Info)
	if err != nil {
		return err
	}
	root := req.Info.ProgramDirectory
	if workspace, err := npm.FindWorkspaceRoot(root); err == nil {
		root = workspace
	}
	// A plug-in that lies in a checkout has its dependencies already; an installation for production alone would remove
	// those that the checkout is developed with.
	if _, err := os.Stat(filepath.Join(root, "node_modules")); req.IsPlugin && err == nil {
		return nil
	}
	return host.Install(req, server, func(stdout, stderr io.Writer) error {
		_, err := npm.Install(server.Context(), opts.packagemanager, root, opts.production || req.IsPlugin, stdout, stderr)
		return err
	})
}

func (h *nodeHost) GetProgramDependencies(
	ctx context.Context, req *pulumirpc.GetProgramDependenciesRequest,
) (*pulumirpc.GetProgramDependenciesResponse, error) {
	opts, err := parseOptions(req.Info)
	if err != nil {
		return nil, err
	}
	manager, err := npm.ResolvePackageManager(opts.packagemanager, req.Info.ProgramDirectory)
	if err != nil {
		return nil, err
	}
	listed, err := manager.ListPackages(ctx, req.Info.ProgramDirectory, req.TransitiveDependencies)
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

func (h *nodeHost) About(ctx context.Context, _ *pulumirpc.AboutRequest) (*pulumirpc.AboutResponse, error) {
	node, err := exec.LookPath("node")
	if err != nil {
		return nil, err
	}
	out, err := exec.CommandContext(ctx, node, "--version").Output()
	if err != nil {
		return nil, err
	}
	return &pulumirpc.AboutResponse{Executable: node, Version: strings.TrimSpace(string(out))}, nil
}
