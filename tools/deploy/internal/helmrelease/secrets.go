package helmrelease

import (
	"context"
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
	var all []*unstructured.Unstructured
	for _, ch := range slices.Concat(p.changes, p.hooks) {
		all = append(all, ch.Unstructured)
		if ch.live != nil {
			all = append(all, ch.live)
		}
	}
	return secretLines(p.Spec.Name, p.Spec.Namespace, all)
}

// Secrets are the lines that the Secrets of a stored revision hold.
func (r *Revision) Secrets() []string {
	if r == nil || r.record == nil {
		return nil
	}
	list, err := parse(manifestOf(r.record.rel))
	if err != nil {
		return nil // nothing of it can be put in place either
	}
	all := make([]*unstructured.Unstructured, len(list))
	for i, o := range list {
		all[i] = o.Unstructured
	}
	return secretLines(r.record.rel.Name, r.record.rel.Namespace, all)
}

// SecretsOf are the lines that the Secrets of a revision hold, by its number.
func (c *Client) SecretsOf(ctx context.Context, namespace, name string, number int) ([]string, error) {
	r, err := c.load(ctx, namespace, name, number)
	if err != nil {
		return nil, err
	}
	return (&Revision{record: r}).Secrets(), nil
}

func secretLines(name, namespace string, all []*unstructured.Unstructured) []string {
	var clear strings.Builder
	clear.WriteString(name + "\n" + namespace + "\n")
	var held []*unstructured.Unstructured
	for _, o := range all {
		if o.GetKind() == "Secret" {
			held = append(held, o)
			clear.WriteString(o.GetName() + "\n")
			continue
		}
		raw, err := json.Marshal(o.Object)
		if err != nil {
			continue // it came as JSON or YAML
		}
		clear.Write(raw)
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
