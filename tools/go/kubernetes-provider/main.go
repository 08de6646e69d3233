// kubernetes-provider is pulumi-resource-kubernetes at tag v4.25.0. The module's own main package embeds files that
// only its release process writes, so this one embeds the sources of those files; the build lays them over this folder.
package main

import (
	"bytes"
	_ "embed"

	"github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/provider"
)

// version is that of the tag; the schema in the repository has none.
const version = "4.25.0"

//go:embed schema.json
var schema []byte

//go:embed terraform-mapping.json
var terraformMapping []byte

func main() {
	versioned := bytes.Replace(schema, []byte("{"), []byte(`{"version":"`+version+`",`), 1)
	provider.Serve("kubernetes", version, versioned, terraformMapping)
}
