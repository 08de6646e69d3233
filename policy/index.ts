// The hard rules as policies, for any stack that builds or deploys vLLM on GH200 with our components or without them:
//   pulumi preview --policy-pack policy
// The predicates are the components' own (components/rules); docs/rules.md says what each one sees and does not.
import { PolicyPack } from "@pulumi/policy";
import { clusterPolicies } from "./cluster";
import { imagePolicies } from "./images";

new PolicyPack("gh200-vllm", { policies: [...imagePolicies, ...clusterPolicies] });
