package drill

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/slipway/slipway/tools/backup/internal/artifact"
	"gitlab.com/slipway/slipway/tools/backup/internal/cover"
)

// Excluded is a kind that a drill does not restore, and why. Controllers act
// on these from outside of the quarantine, where no network policy holds them.
type Excluded struct {
	Resource string `json:"resource"`
	Why      string `json:"why"`
}

// excluded are the kinds that a drill leaves out.
func excluded() []Excluded {
	const dns, certificates, acts, operator = "would move production's traffic and DNS records", "would order certificates in production's name",
		"would do production's work a second time", "its controller would act on production's systems"
	return []Excluded{
		{"ingresses.networking.k8s.io", dns},
		{"ingressroutes.traefik.io", dns}, {"ingressroutetcps.traefik.io", dns}, {"ingressrouteudps.traefik.io", dns},
		{"gateways.gateway.networking.k8s.io", dns}, {"httproutes.gateway.networking.k8s.io", dns}, {"grpcroutes.gateway.networking.k8s.io", dns},
		{"tlsroutes.gateway.networking.k8s.io", dns}, {"tcproutes.gateway.networking.k8s.io", dns}, {"dnsendpoints.externaldns.k8s.io", dns},
		{"targetgroupbindings.elbv2.k8s.aws", dns},
		{"certificates.cert-manager.io", certificates}, {"certificaterequests.cert-manager.io", certificates}, {"issuers.cert-manager.io", certificates},
		{"orders.acme.cert-manager.io", certificates}, {"challenges.acme.cert-manager.io", certificates},
		{"cronjobs.batch", acts}, {"jobs.batch", acts},
		{"externalsecrets.external-secrets.io", operator}, {"pushsecrets.external-secrets.io", operator}, {"secretstores.external-secrets.io", operator},
		{"clusters.postgresql.cnpg.io", operator}, {"rabbitmqclusters.rabbitmq.com", operator}, {"kafkas.kafka.strimzi.io", operator},
		{"horizontalpodautoscalers.autoscaling", "would change the number of pods while they are checked"},
		{"poddisruptionbudgets.policy", "would hold up the clean-up"},
		{"resourcequotas", "would change what the checks see: the quarantine has no quota"},
		{"networkpolicies.networking.k8s.io", "could open the quarantine: policies add up"},
		{"rolebindings.rbac.authorization.k8s.io", "would give people rights on the copy, or the copy rights in the cluster"},
		{"endpoints", "belongs to the pods of the source"}, {"endpointslices.discovery.k8s.io", "belongs to the pods of the source"},
		{"events", "tells of the source"},
	}
}

// withoutJobs leaves the pods of jobs out, which Velero restores without their
// job where they still ran.
func withoutJobs() *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: batchv1.JobNameLabel, Operator: metav1.LabelSelectorOpDoesNotExist}}}
}

// hazards are the objects of a backup that would reach production from a
// quarantine and that this version does not change on their way: the drill is
// refused before anything is restored. What a drill leaves out is none.
func hazards(a *artifact.Artifact) []string {
	var out []string
	for key, item := range a.Items {
		if leftOut(key, item) {
			continue
		}
		if item.Pod != nil {
			for _, way := range outside(item.Pod) {
				out = append(out, fmt.Sprintf("%s %s", key, way))
			}
		}
		switch key.Resource {
		case "services":
			if kind, _ := item.Spec.Type.(string); kind == "LoadBalancer" || kind == "ExternalName" {
				out = append(out, fmt.Sprintf("%s is of type %s", key, kind))
			}
			if list, _ := item.Spec.ExternalIPs.([]any); len(list) > 0 {
				out = append(out, fmt.Sprintf("%s has the external addresses %v: what is meant for production would go to the copy", key, list))
			}
			for name := range item.Metadata.Annotations {
				if strings.HasPrefix(name, "external-dns.") {
					out = append(out, fmt.Sprintf("%s has the annotation %s: a record of production would point to the copy", key, name))
				}
			}
		case "persistentvolumes":
			policy, _ := item.Spec.ReclaimPolicy.(string)
			if c := item.Spec.ClaimRef; policy != "Delete" && (c == nil || cover.ClaimState(c.Namespace, c.Name, a.Volumes).State != cover.Covered) {
				out = append(out, fmt.Sprintf("%s is kept (%s) and its data is not in the backup: the copy would mount production's own volume", key, policy))
			}
		}
	}
	slices.Sort(out)
	return out
}

// leftOut reports whether a drill does not restore an object.
func leftOut(key artifact.Key, item artifact.Item) bool {
	_, ofJob := item.Metadata.Labels[batchv1.JobNameLabel]
	return ofJob || slices.ContainsFunc(excluded(), func(e Excluded) bool { return e.Resource == key.Resource })
}

// outside are the ways in which a pod reaches its node past the network policy
// of the quarantine. The node may be one of production's.
func outside(p *artifact.PodSpec) []string {
	var out []string
	for name, set := range map[string]bool{"hostNetwork": p.HostNetwork, "hostPID": p.HostPID, "hostIPC": p.HostIPC} {
		if set {
			out = append(out, "has "+name+": no network policy keeps it from its node")
		}
	}
	for _, v := range p.Volumes {
		if v.HostPath != nil {
			out = append(out, fmt.Sprintf("mounts %q of its node (volume %s)", v.HostPath.Path, v.Name))
		}
	}
	for _, c := range slices.Concat(p.InitContainers, p.Containers, p.EphemeralContainers) {
		for _, port := range c.Ports {
			if port.HostPort != 0 {
				out = append(out, fmt.Sprintf("takes port %d of its node (container %s)", port.HostPort, c.Name))
			}
		}
	}
	return out
}

// cloudRoles are the service accounts of a backup that carry an AWS role.
func cloudRoles(a *artifact.Artifact) []string {
	var out []string
	for key, item := range a.Items {
		if role := item.Metadata.Annotations["eks.amazonaws.com/role-arn"]; key.Resource == "serviceaccounts" && role != "" {
			out = append(out, fmt.Sprintf("%s carries the AWS role %s", key, role))
		}
	}
	slices.Sort(out)
	return out
}

// podSecurity are the pod security labels of a source namespace, as it was
// backed up: its copy is held to the same.
func podSecurity(a *artifact.Artifact, namespace string) map[string]string {
	out := map[string]string{}
	for name, value := range a.Items[artifact.Key{Resource: "namespaces", Name: namespace}].Metadata.Labels {
		if strings.HasPrefix(name, "pod-security.kubernetes.io/") {
			out[name] = value
		}
	}
	return out
}

// mapping says which source namespace is restored into which quarantine, and
// refuses every case in which something could land in a source namespace.
func mapping(sources map[string]string, included []string, name func(service string) string) (map[string]string, error) {
	out := map[string]string{}
	for _, service := range slices.Sorted(maps.Keys(sources)) {
		out[sources[service]] = name(service)
	}
	for _, ns := range included {
		if _, ok := out[ns]; !ok {
			return nil, fmt.Errorf("namespace %q of the backup belongs to no service of it", ns)
		}
	}
	if len(included) != len(out) || len(out) != len(sources) {
		return nil, fmt.Errorf("the backup has the namespaces %s, its services say %s", strings.Join(included, ", "), strings.Join(slices.Sorted(maps.Keys(out)), ", "))
	}
	seen := map[string]bool{}
	for source, target := range out {
		if _, isSource := out[target]; isSource || source == target || seen[target] {
			return nil, fmt.Errorf("namespace %q would be restored into %q", source, target)
		}
		seen[target] = true
	}
	return out, nil
}
