package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/blang/semver"
	"github.com/pulumi/pulumi/pkg/v3/codegen/cgstrings"
	"github.com/pulumi/pulumi/pkg/v3/codegen/nodejs"
	"github.com/pulumi/pulumi/pkg/v3/codegen/schema"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/nodejs/npm"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
)

// GeneratePackage writes a TypeScript SDK of a component package, for `pulumi package add` and `gen-sdk`.
func (h *host) GeneratePackage(
	_ context.Context, req *pulumirpc.GeneratePackageRequest,
) (*pulumirpc.GeneratePackageResponse, error) {
	client, err := schema.NewLoaderClient(req.LoaderTarget)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	loader := schema.NewCachedLoader(client)
	var spec schema.PackageSpec
	if err := json.Unmarshal([]byte(req.Schema), &spec); err != nil {
		return nil, err
	}
	pkg, diagnostics, err := schema.BindSpec(spec, loader, schema.ValidationOptions{AllowDanglingReferences: true})
	if err != nil {
		return nil, err
	}
	response := &pulumirpc.GeneratePackageResponse{Diagnostics: plugin.HclDiagnosticsToRPCDiagnostics(diagnostics)}
	if diagnostics.HasErrors() {
		return response, nil
	}
	files, err := nodejs.GeneratePackage(
		"pulumi-language-nodejs", pkg, req.ExtraFiles, req.LocalDependencies, req.Local, loader)
	if err != nil {
		return nil, err
	}
	for name, content := range files {
		path := filepath.Join(req.Directory, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return nil, err
		}
	}
	return response, nil
}

// Link adds generated SDKs to the program's package.json, the last step of `pulumi package add`.
func (h *host) Link(ctx context.Context, req *pulumirpc.LinkRequest) (*pulumirpc.LinkResponse, error) {
	opts, err := parseOptions(req.Info)
	if err != nil {
		return nil, err
	}
	client, err := schema.NewLoaderClient(req.LoaderTarget)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	loader := schema.NewCachedLoader(client)
	manager, err := npm.ResolvePackageManager(opts.packagemanager, req.Info.ProgramDirectory)
	if err != nil {
		return nil, err
	}
	imports := []string{"You can import the SDK with:", ""}
	for _, dependency := range req.Packages {
		reference, err := schema.LoadPackageReferenceV2(ctx, loader, descriptor(dependency.Package))
		if err != nil {
			return nil, err
		}
		pkg, err := reference.Definition()
		if err != nil {
			return nil, err
		}
		name, err := npmName(pkg)
		if err != nil {
			return nil, err
		}
		if err := manager.Link(ctx, req.Info.ProgramDirectory, name, dependency.Path); err != nil {
			return nil, err
		}
		imports = append(imports, fmt.Sprintf("  import * as %s from %q;", cgstrings.Camel(reference.Name()), name))
	}
	return &pulumirpc.LinkResponse{ImportInstructions: strings.Join(imports, "\n") + "\n"}, nil
}

func descriptor(dependency *pulumirpc.PackageDependency) *schema.PackageDescriptor {
	described := &schema.PackageDescriptor{Name: dependency.Name, DownloadURL: dependency.Server}
	if version, err := semver.ParseTolerant(dependency.Version); err == nil {
		described.Version = &version
	}
	if p := dependency.Parameterization; p != nil {
		described.Parameterization = &schema.ParameterizationDescriptor{Name: p.Name, Value: p.Value}
		if version, err := semver.ParseTolerant(p.Version); err == nil {
			described.Parameterization.Version = version
		}
	}
	return described
}

func npmName(pkg *schema.Package) (string, error) {
	if err := pkg.ImportLanguages(map[string]schema.Language{"nodejs": nodejs.Importer}); err != nil {
		return "", err
	}
	if info, ok := pkg.Language["nodejs"].(nodejs.NodePackageInfo); ok && info.PackageName != "" {
		return info.PackageName, nil
	}
	if pkg.Namespace != "" {
		return "@" + pkg.Namespace + "/" + pkg.Name, nil
	}
	return "@pulumi/" + pkg.Name, nil
}
