package host

import (
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
)

// Dependency is what a provider's SDK says of its plug-in; nil where it has none. Name and version are the SDK's own,
// for one that leaves them out.
func Dependency(info *plugin.PulumiPluginJSON, name, version string) *pulumirpc.PackageDependency {
	if info == nil || !info.Resource {
		return nil
	}
	if info.Name != "" {
		name = info.Name
	}
	if info.Version != "" {
		version = info.Version
	}
	return &pulumirpc.PackageDependency{
		Name: name, Kind: "resource", Version: "v" + strings.TrimPrefix(version, "v"), Server: info.Server,
		Parameterization: parameterization(info.Parameterization),
		Extension:        parameterization(info.ExtensionParameterization),
	}
}

func parameterization(p *plugin.PulumiParameterizationJSON) *pulumirpc.PackageParameterization {
	if p == nil {
		return nil
	}
	return &pulumirpc.PackageParameterization{Name: p.Name, Version: p.Version, Value: p.Value}
}
