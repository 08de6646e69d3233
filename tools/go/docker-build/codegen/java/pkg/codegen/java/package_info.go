// Package java holds the one type that pulumi-docker-build imports from pulumi-java, whose module is not served.
// The provider only writes it into its schema, for the generator of Java SDKs.
package java

type PackageInfo struct {
	BuildFiles                      string            `json:"buildFiles,omitempty"`
	GradleNexusPublishPluginVersion string            `json:"gradleNexusPublishPluginVersion,omitempty"`
	Dependencies                    map[string]string `json:"dependencies,omitempty"`
}
