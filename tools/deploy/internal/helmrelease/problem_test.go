package helmrelease

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/slipway/slipway/pkg/tool"
)

func refusal(code int32, message string, causes ...metav1.StatusCause) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Code: code, Message: message, Reason: map[int32]metav1.StatusReason{403: metav1.StatusReasonForbidden}[code],
		Details: &metav1.StatusDetails{Causes: causes}}}
}

// TestJudge reads the words of a real server (1.37).
func TestJudge(t *testing.T) {
	ch := &change{object: object{Unstructured: one(t, deployment), source: "orders/templates/a.yaml"}, action: Update}
	for name, c := range map[string]struct {
		err     error
		class   string
		warning bool
		text    string
	}{
		"unknown field": {refusal(400, `Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: unknown field "spec.replica", unknown field "spec.template.spec.container"`),
			ClassField, false, `unknown field "spec.replica", unknown field "spec.template.spec.container"`},
		"immutable": {refusal(422, `Deployment.apps "a" is invalid: spec.selector: Invalid value: {}: field is immutable`, metav1.StatusCause{Field: "spec.selector", Message: "Invalid value: {}: field is immutable"}),
			ClassImmutable, false, "spec.selector"},
		"stateful set": {refusal(422, `StatefulSet.apps "a" is invalid: spec: Forbidden: updates to statefulset spec for fields other than 'replicas' are forbidden`), ClassImmutable, false, "statefulset"},
		"invalid":      {refusal(422, `Deployment.apps "a" is invalid: spec.replicas: Invalid value: -1`), ClassInvalid, false, "spec.replicas"},
		"webhook":      {refusal(403, `admission webhook "policy.example.com" denied the request: no`), ClassAdmission, false, "policy.example.com"},
		"policy":       {refusal(422, `deployments.apps "a" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'p' denied request: not for services`), ClassAdmission, false, "not for services"},
		"no dry run":   {refusal(400, `admission webhook "w.example.com" does not support dry run`), ClassUnchecked, true, "w.example.com"},
		"webhook away": {refusal(500, `Internal error occurred: failed calling webhook "w.example.com": dial tcp: connection refused`), ClassUnchecked, true, "w.example.com"},
		"rights":       {refusal(403, `deployments.apps "a" is forbidden: User "u" cannot patch resource "deployments" in API group "apps" in the namespace "n"`), ClassRights, false, "cannot patch"},
		"granting":     {refusal(403, `roles.rbac.authorization.k8s.io "a" is forbidden: user "u" (groups=["g"]) is attempting to grant RBAC permissions not currently held`), ClassRights, false, "grant"},
		"brought":      {refusal(403, `pods "a" is forbidden: error looking up service account n/orders: serviceaccount "orders" not found`), ClassUnchecked, true, "comes with this release"},
		"missing":      {refusal(403, `pods "a" is forbidden: error looking up service account n/other: serviceaccount "other" not found`), ClassAdmission, false, "other"},
	} {
		p, err := judge(ch, c.err, func(name string) bool { return name == "orders" })
		if err != nil || p.Class != c.class || p.Warning != c.warning || !strings.Contains(p.Message, c.text) || p.Source != "orders/templates/a.yaml" || p.Object != "Deployment a" {
			t.Errorf("%s: %+v, error %v", name, p, err)
		}
	}
	for name, err := range map[string]error{"away": errors.New("connection refused"), "busy": refusal(429, "too many requests"), "broken": refusal(http.StatusInternalServerError, "etcd is away")} {
		if _, got := judge(ch, err, func(string) bool { return false }); !errors.Is(got, err) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestRefusalsHaveTheGravestCode(t *testing.T) {
	p := func(class string) Problem { return Problem{Class: class, Message: class} }
	for name, c := range map[string]struct {
		problems []Problem
		code     int
	}{
		"none":     {nil, tool.OK},
		"warnings": {[]Problem{{Class: ClassUnchecked, Warning: true}}, tool.OK},
		"tenancy":  {[]Problem{p(ClassField), p(ClassRights), p(ClassTenancy)}, tool.Refused},
		"rights":   {[]Problem{p(ClassField), p(ClassRights)}, tool.Denied},
		"field":    {[]Problem{p(ClassOwner), p(ClassField)}, tool.Usage},
		"owner":    {[]Problem{p(ClassOwner)}, tool.Failed},
	} {
		err := refusals("orders", c.problems)
		if got := tool.CodeOf(err); got != c.code {
			t.Errorf("%s: code %d, want %d", name, got, c.code)
		}
		for _, one := range c.problems {
			if err != nil && !one.Warning && !strings.Contains(err.Error(), one.Message) {
				t.Errorf("%s: %v lacks %s", name, err, one.Message)
			}
		}
	}
}
