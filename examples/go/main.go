package main

import (
	"github.com/gh200/pulumi-gh200-vllm/sdk/go/gh200vllm"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi/config"
)

func main() {
	pulumi.Run(func(ctx *pulumi.Context) error {
		cfg := config.New(ctx, "")
		node, err := gh200vllm.NewGh200Node(ctx, "node", &gh200vllm.Gh200NodeArgs{
			EgmEnabled:   false,
			CoherentMode: gh200vllm.CoherentModeDriver,
		})
		if err != nil {
			return err
		}
		vllm, err := gh200vllm.NewVllmServer(ctx, "vllm", &gh200vllm.VllmServerArgs{
			Image: pulumi.String(cfg.Require("image")),
			Model: pulumi.String(cfg.Require("model")),
			// The image has no launcher that places memory: vLLM does as it always does.
			Placement:     gh200vllm.PlacementOff,
			PodLimitMiB:   node.PodLimitMiB,
			HbmBudgetMiB:  node.HbmBudgetMiB,
			HostBudgetMiB: node.HostBudgetMiB,
			RegistryHost:  pulumi.String(cfg.Get("registryHost")),
			PullUsername:  pulumi.String(cfg.Get("pullUsername")),
			PullPassword:  cfg.GetSecret("pullPassword"),
		})
		if err != nil {
			return err
		}
		// Address of the OpenAI API inside the cluster.
		ctx.Export("endpoint", vllm.Endpoint)
		return nil
	})
}
