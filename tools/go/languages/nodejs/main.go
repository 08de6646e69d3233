// pulumi-language-nodejs is a Node.js language host of Pulumi; see package host. The last official one that is served as
// a module (inside sdk v3.68.0) knows neither policy packs nor source plug-ins.
//
// The official host puts a proxy between program and engine for synchronous invokes. @pulumi/pulumi 3.270.0 makes none,
// so here the program speaks to the engine directly: one hop less on every registration.
package main

import (
	"gh200-vllm/tools/languages/internal/host"

	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
)

type nodeHost struct{ *host.Base }

func main() {
	host.Main(func(base *host.Base) pulumirpc.LanguageRuntimeServer { return &nodeHost{base} },
		"typescript", "tsconfig", "nodeargs", "packagemanager", "production")
}
