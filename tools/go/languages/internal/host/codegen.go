package host

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"github.com/blang/semver"
	"github.com/pulumi/pulumi/pkg/v3/codegen/schema"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
)

// GeneratePackage writes an SDK of a component package by `generate`, for `pulumi package add` and `gen-sdk`.
func GeneratePackage(
	req *pulumirpc.GeneratePackageRequest,
	generate func(*schema.Package, schema.ReferenceLoader) (map[string][]byte, error),
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
	files, err := generate(pkg, loader)
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

// Link is the last step of `pulumi package add`: `link` makes each generated SDK a dependency of the program, and
// answers with the line that imports it.
func Link(
	ctx context.Context, req *pulumirpc.LinkRequest, link func(pkg *schema.Package, path string) (string, error),
) (*pulumirpc.LinkResponse, error) {
	client, err := schema.NewLoaderClient(req.LoaderTarget)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	loader := schema.NewCachedLoader(client)
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
		line, err := link(pkg, dependency.Path)
		if err != nil {
			return nil, err
		}
		imports = append(imports, "  "+line)
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
