package helmrelease

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gitlab.com/slipway/slipway/pkg/kube"
	"gitlab.com/slipway/slipway/pkg/tool"
)

// Classes of problems, found before anything is touched.
const (
	ClassField     = "unknown-field"
	ClassImmutable = "immutable-field"
	ClassInvalid   = "invalid"
	ClassAdmission = "admission"
	ClassKind      = "unknown-kind"
	ClassOwner     = "ownership"
	ClassNamespace = "namespace"
	ClassRights    = "rights"
	ClassTenancy   = "tenancy"
	ClassSize      = "size"
	ClassVersion   = "stored-version"
	ClassUnchecked = "not-checkable"
)

// Problem is what stands against a release, or, as a warning, what could not
// be looked at beforehand.
type Problem struct {
	Class   string `json:"class"`
	Source  string `json:"source,omitempty"` // the template
	Object  string `json:"object,omitempty"`
	Message string `json:"message"`
	Next    string `json:"next,omitempty"`
	Warning bool   `json:"warning,omitempty"`
}

// String returns the problem as one line.
func (p Problem) String() string {
	var where []string
	for _, w := range []string{p.Source, p.Object} {
		if w != "" {
			where = append(where, w)
		}
	}
	return strings.Join(append(where, p.Message), ": ")
}

// refusals returns the error that all problems of a plan make together, each a
// line, under the exit code of the gravest.
func refusals(release string, problems []Problem) error {
	var lines, hints []string
	classes := map[string]bool{}
	for _, p := range problems {
		if p.Warning {
			continue
		}
		classes[p.Class] = true
		lines = append(lines, p.String())
		if p.Next != "" && !strings.Contains(strings.Join(hints, "\n"), p.Next) {
			hints = append(hints, p.Next)
		}
	}
	code := tool.Failed
	switch {
	case len(lines) == 0:
		return nil
	case classes[ClassTenancy]:
		code = tool.Refused
	case classes[ClassRights]:
		code = tool.Denied
	case classes[ClassField] || classes[ClassInvalid] || classes[ClassSize]:
		code = tool.Usage
	}
	if len(lines) == 1 {
		return tool.Exit(code, fmt.Errorf("checking release %q: %s", release, lines[0]), hints...)
	}
	return tool.Exit(code, fmt.Errorf("checking release %q: %d problems:\n  %s", release, len(lines), strings.Join(lines, "\n  ")), hints...)
}

var (
	strictFields = regexp.MustCompile(`(?:unknown|duplicate) field "[^"]*"`)
	immutable    = regexp.MustCompile(`(?i)immutable|may not be changed|may not change once set|updates to \w+ spec for fields other than|cannot be changed`)
	noRight      = regexp.MustCompile(`(?i)user "[^"]*" cannot|attempting to grant RBAC permissions`)
	deniedBy     = regexp.MustCompile(`(?s)admission webhook "[^"]+" denied the request|ValidatingAdmissionPolicy '[^']+' .*denied request|violates PodSecurity|exceeded quota`)
)

// judge reads what the server said to a dry run. Errors that say nothing of
// the object (the server is away, the run was cancelled) are returned.
func judge(ch *change, err error, brought func(name string) bool) (Problem, error) {
	p := Problem{Source: ch.source, Object: ch.key().String()}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return p, err
	}
	s := status.Status()
	text := s.Message
	switch {
	case strings.Contains(text, "strict decoding error"):
		p.Class, p.Message = ClassField, strings.Join(strictFields.FindAllString(text, -1), ", ")
		if p.Message == "" {
			p.Message = text
		}
		p.Next = "the server does not know the field: correct its name or its place in the template"
	case strings.Contains(text, "does not support dry run"):
		p.Class, p.Warning, p.Message = ClassUnchecked, true, text
	case strings.Contains(text, "failed calling webhook"):
		p.Class, p.Warning, p.Message = ClassUnchecked, true, text
	case deniedBy.MatchString(text):
		p.Class, p.Message = ClassAdmission, text
	case missing(s, brought):
		p.Class, p.Warning, p.Message = ClassUnchecked, true, "what it refers to comes with this release: "+text
	case s.Code == http.StatusUnauthorized, kube.Denied(err) && noRight.MatchString(text):
		p.Class, p.Message = ClassRights, text
		p.Next = "the role's group has no right to this in the cluster; the tenancy release gives it"
	case s.Code == http.StatusForbidden: // by one of the server's own admission plugins
		p.Class, p.Message = ClassAdmission, text
	case s.Code == http.StatusNotFound && ch.action == Create:
		p.Class, p.Message = ClassNamespace, text
		p.Next = "the tenancy release of the platform makes the namespaces of services"
	case ch.action == Update && immutable.MatchString(text):
		p.Class, p.Message = ClassImmutable, causes(s)
		p.Next = "such a field stays for the object's life: give the object another name, or delete the object by hand first"
	case s.Code == http.StatusRequestEntityTooLarge || strings.Contains(text, "request is too large"):
		p.Class, p.Message = ClassSize, text
	case s.Code >= http.StatusInternalServerError || s.Code == http.StatusTooManyRequests:
		return p, err
	default:
		p.Class, p.Message = ClassInvalid, causes(s)
	}
	return p, nil
}

// causes returns the fields that the server objects to.
func causes(s metav1.Status) string {
	if s.Details == nil || len(s.Details.Causes) == 0 {
		return s.Message
	}
	var out []string
	for _, c := range s.Details.Causes {
		if c.Field == "" {
			return s.Message
		}
		out = append(out, c.Field+": "+c.Message)
	}
	return strings.Join(out, "; ")
}

var absent = regexp.MustCompile(`"([^"]+)" not found|no \w+ with name (\S+) was found`)

// missing reports whether the server only lacks what the release itself
// brings: a dry run leaves nothing that the next one could refer to.
func missing(s metav1.Status, brought func(name string) bool) bool {
	if s.Code != http.StatusNotFound && s.Code != http.StatusForbidden && s.Code != http.StatusUnprocessableEntity {
		return false
	}
	for _, m := range absent.FindAllStringSubmatch(s.Message, -1) {
		if brought(m[1] + m[2]) {
			return true
		}
	}
	return false
}
