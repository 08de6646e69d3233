// Package codegen holds the one type that pulumi-docker-build imports from pulumi-dotnet, whose module is not served.
// The provider only writes it into its schema, for the generator of .NET SDKs.
package codegen

type CSharpPackageInfo struct {
	PackageReferences    map[string]string `json:"packageReferences,omitempty"`
	RespectSchemaVersion bool              `json:"respectSchemaVersion,omitempty"`
}
