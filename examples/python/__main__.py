import gh200_gh200_vllm as gh200
import pulumi

config = pulumi.Config()

node = gh200.Gh200Node(
    "node",
    egm_enabled=False,
    coherent_mode=gh200.CoherentMode.DRIVER,
)
vllm = gh200.VllmServer(
    "vllm",
    image=config.require("image"),
    model=config.require("model"),
    # The image has no launcher that places memory: vLLM does as it always does.
    placement=gh200.Placement.OFF,
    pod_limit_mi_b=node.pod_limit_mi_b,
    hbm_budget_mi_b=node.hbm_budget_mi_b,
    host_budget_mi_b=node.host_budget_mi_b,
    registry_host=config.get("registryHost"),
    pull_username=config.get("pullUsername"),
    pull_password=config.get_secret("pullPassword"),
)

# Address of the OpenAI API inside the cluster.
pulumi.export("endpoint", vllm.endpoint)
