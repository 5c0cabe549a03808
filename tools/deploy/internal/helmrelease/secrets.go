package helmrelease

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// shortestSecret is the length from which a line of a Secret is kept out of
// logs: what is shorter is an ordinary word too often.
const shortestSecret = 8

// Secrets are the lines that the release's Secrets hold, for the log and for
// what is kept of the run: a program that fails may print them. What the
// release says in clear elsewhere, such as a name or an address, is none.
func (p *Plan) Secrets() []string {
	var clear strings.Builder
	clear.WriteString(p.Spec.Name + "\n" + p.Spec.Namespace + "\n")
	var held []*unstructured.Unstructured
	for _, ch := range slices.Concat(p.changes, p.hooks) {
		for _, o := range []*unstructured.Unstructured{ch.Unstructured, ch.live} {
			switch {
			case o == nil:
			case o.GetKind() == "Secret":
				held = append(held, o)
				clear.WriteString(o.GetName() + "\n")
			default:
				raw, err := json.Marshal(o.Object)
				if err != nil {
					continue // it came as JSON or YAML
				}
				clear.Write(raw)
			}
		}
	}
	var out []string
	for _, o := range held {
		for _, line := range linesOf(o.Object) {
			if len(line) >= shortestSecret && !strings.Contains(clear.String(), line) && !slices.Contains(out, line) {
				out = append(out, line)
			}
		}
	}
	return out
}

// linesOf are the lines of what a Secret holds.
func linesOf(secret map[string]any) []string {
	var out []string
	for _, field := range []string{"data", "stringData"} {
		values, _ := secret[field].(map[string]any)
		for _, v := range values {
			text := fmt.Sprint(v)
			if raw, err := base64.StdEncoding.DecodeString(text); field == "data" && err == nil {
				out, text = append(out, text), string(raw)
			}
			for line := range strings.Lines(text) {
				out = append(out, strings.TrimSpace(line))
			}
		}
	}
	return out
}
