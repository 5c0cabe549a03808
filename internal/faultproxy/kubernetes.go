package faultproxy

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Kubernetes is an API server. A watch and what is upgraded pass as they come.
func Kubernetes() Part {
	return Part{Name: "kubernetes", describe: describeKubernetes, refuse: refuseKubernetes}
}

// asked are the kinds that are created to ask something: nothing of them stays.
func asked() []string {
	return []string{"tokenreviews", "subjectaccessreviews", "selfsubjectaccessreviews", "localsubjectaccessreviews", "selfsubjectrulesreviews",
		"selfsubjectreviews", "serviceaccounts/token"}
}

// describeKubernetes names a call as RBAC does: "patch deployments",
// "create pods/exec".
func describeKubernetes(r *http.Request) Call {
	group, resource, name := kubernetesThing(r.URL.Path)
	if resource == "" {
		return Call{Action: strings.ToLower(r.Method) + " " + r.URL.Path, Mutates: !reads(r.Method)}
	}
	query := r.URL.Query()
	verb := map[string]string{http.MethodGet: "get", http.MethodHead: "get", http.MethodPost: "create", http.MethodPut: "update",
		http.MethodPatch: "patch", http.MethodDelete: "delete"}[r.Method]
	switch {
	case verb == "get" && (query.Get("watch") == "true" || query.Get("watch") == "1"):
		verb = "watch"
	case verb == "get" && name == "":
		verb = "list"
	case verb == "delete" && name == "":
		verb = "deletecollection"
	}
	changes := !reads(r.Method) && !slices.Contains(asked(), resource) && query.Get("dryRun") == ""
	// A websocket is opened by GET, and what runs in it may change anything.
	changes = changes || resource == "pods/exec" || resource == "pods/attach"
	if group != "" {
		resource += "." + group
	}
	return Call{Action: verb + " " + resource, Mutates: changes}
}

// kubernetesThing reads /api/v1/... and /apis/GROUP/VERSION/..., each with or
// without namespaces/NAME. The resource is "" for paths outside of them.
func kubernetesThing(path string) (group, resource, name string) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case len(parts) > 2 && parts[0] == "api":
		parts = parts[2:]
	case len(parts) > 3 && parts[0] == "apis":
		group, parts = parts[1], parts[3:]
	default:
		return "", "", ""
	}
	if len(parts) > 2 && parts[0] == "namespaces" && parts[2] != "status" && parts[2] != "finalize" {
		parts = parts[2:]
	}
	resource = parts[0]
	if len(parts) > 1 {
		name = parts[1]
	}
	if len(parts) > 2 {
		resource += "/" + parts[2]
	}
	return group, resource, name
}

// refuseKubernetes answers with a Status, as the API server does.
func refuseKubernetes(_ *http.Request, f Fault) reply {
	code, reason, message, details := f.code, "InternalError", "an error on the server has prevented the request from succeeding", ""
	header := jsonHeader()
	switch {
	case f.kind == throttle:
		code, reason, message = http.StatusTooManyRequests, "TooManyRequests", "too many requests, please try again later"
		header.Set("Retry-After", retryAfter(f))
		details = fmt.Sprintf(`"details":{"retryAfterSeconds":%s},`, retryAfter(f))
	case code == http.StatusServiceUnavailable:
		reason, message = "ServiceUnavailable", "the server is currently unable to handle the request"
	case code == http.StatusGatewayTimeout:
		reason, message = "Timeout", "the server was unable to return a response in the time allotted"
	case code == http.StatusBadGateway: // the load balancer before it
		return gateway(code)
	}
	return reply{code, header, fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":%q,"reason":%q,%s"code":%d}`+"\n",
		message, reason, details, code)}
}
