package gitlabapitest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

// definition is one job as the resolved configuration has it, with its rules already decided.
type definition struct {
	Name          string              `json:"name"`
	Stage         string              `json:"stage"`
	When          string              `json:"when"`
	AllowFailure  bool                `json:"allow_failure"`
	AllowCodes    []int               `json:"allow_codes,omitempty"`
	HasNeeds      bool                `json:"has_needs"`
	Needs         []need              `json:"needs,omitempty"`
	Dependencies  []string            `json:"dependencies,omitempty"`
	LimitsDeps    bool                `json:"limits_deps"`
	Environment   *jobEnvironment     `json:"environment,omitempty"`
	IDTokens      map[string][]string `json:"id_tokens,omitempty"`
	ResourceGroup string              `json:"resource_group,omitempty"`
	Timeout       string              `json:"timeout,omitempty"`
	Retry         retry               `json:"retry"`
	Dotenv        []string            `json:"dotenv,omitempty"`
	ArtifactsWhen string              `json:"artifacts_when,omitempty"`
	ExpireIn      string              `json:"expire_in,omitempty"`
	Tags          []string            `json:"tags,omitempty"`
}

type need struct {
	Job       string `json:"job"`
	Artifacts bool   `json:"artifacts"`
	Optional  bool   `json:"optional"`
}

type jobEnvironment struct {
	Name   string `json:"name"`
	URL    string `json:"url,omitempty"`
	Action string `json:"action"`
	Tier   string `json:"tier,omitempty"`
	OnStop string `json:"on_stop,omitempty"` // the job that stops it
	StopIn string `json:"stop_in,omitempty"` // auto_stop_in
}

type retry struct {
	Max   int      `json:"max"`
	When  []string `json:"when,omitempty"`
	Codes []int    `json:"codes,omitempty"`
}

func (d *definition) timeout() time.Duration {
	if t, err := time.ParseDuration(strings.ReplaceAll(d.Timeout, " ", "")); err == nil && t > 0 {
		return t
	}
	var n float64
	var unit string
	if _, err := fmt.Sscan(d.Timeout, &n, &unit); err == nil && n > 0 {
		switch {
		case strings.HasPrefix(unit, "h"):
			return time.Duration(n * float64(time.Hour))
		case strings.HasPrefix(unit, "m"):
			return time.Duration(n * float64(time.Minute))
		case strings.HasPrefix(unit, "s"):
			return time.Duration(n * float64(time.Second))
		}
	}
	return time.Hour
}

// tier guesses as GitLab does where the job does not say.
func (e *jobEnvironment) tier() string { return tierOf(e.Name, e.Tier) }

func tierOf(name, tier string) string {
	if tier != "" {
		return tier
	}
	name = strings.ToLower(name)
	for _, t := range []struct{ tier, words string }{
		{"development", "dev review trunk"}, {"testing", "test tst int ac qa"}, {"staging", "sta mod pre demo non"}, {"production", "prod live"},
	} {
		for _, word := range strings.Fields(t.words) {
			if strings.Contains(name, word) {
				return t.tier
			}
		}
	}
	return "other"
}

// listed is a job as gitlab-ci-local --list-json prints it: after the rules.
type listed struct {
	Name         string          `json:"name"`
	Stage        string          `json:"stage"`
	When         string          `json:"when"`
	AllowFailure json.RawMessage `json:"allow_failure"`
	Needs        *[]need         `json:"needs"`
}

// definitions joins the two views gitlab-ci-local has of one configuration: the list, where rules are decided, and
// the preview, where everything else is. In a merge request's pipeline, a job without rules is not meant.
func definitions(list []listed, preview []byte, variables map[string]string, merge bool) ([]definition, []string, error) {
	var merged map[string]any
	if err := yaml.Unmarshal(preview, &merged); err != nil {
		return nil, nil, fmt.Errorf("reading the expanded configuration: %w", err)
	}
	stages := texts(merged["stages"])
	globals := textMap(merged["variables"])
	var defs []definition
	for _, l := range list {
		if l.When == "never" {
			continue
		}
		raw, ok := merged[l.Name].(map[string]any)
		if !ok {
			base, _, _ := strings.Cut(l.Name, ": [")
			if raw, ok = merged[base].(map[string]any); !ok {
				if i := strings.LastIndex(l.Name, " "); i > 0 {
					raw, ok = merged[l.Name[:i]].(map[string]any)
				}
			}
		}
		if !ok {
			return nil, nil, fmt.Errorf("jobs:%s is not in the expanded configuration", l.Name)
		}
		if _, ok := raw["rules"]; merge && !ok {
			continue
		}
		if _, ok := raw["trigger"]; ok {
			return nil, nil, fmt.Errorf("jobs:%s trigger jobs are not run by this server: call the trigger API from a script", l.Name)
		}
		if l.When == "delayed" {
			return nil, nil, fmt.Errorf("jobs:%s when: delayed is not run by this server", l.Name)
		}
		env := map[string]string{}
		for _, m := range []map[string]string{variables, globals, textMap(raw["variables"]), matrixVariables(l.Name, raw)} {
			for k, v := range m {
				env[k] = v
			}
		}
		defs = append(defs, define(l, raw, env))
	}
	return defs, stages, nil
}

func define(l listed, raw map[string]any, env map[string]string) definition {
	d := definition{Name: l.Name, Stage: l.Stage, When: l.When, IDTokens: map[string][]string{}}
	var codes struct {
		Codes any `json:"exit_codes"`
	}
	switch {
	case json.Unmarshal(l.AllowFailure, &d.AllowFailure) == nil:
	case json.Unmarshal(l.AllowFailure, &codes) == nil:
		d.AllowCodes = numbers(codes.Codes)
	}
	if l.Needs != nil {
		d.HasNeeds, d.Needs = true, *l.Needs
	}
	if deps, ok := raw["dependencies"]; ok {
		d.LimitsDeps, d.Dependencies = true, texts(deps)
	}
	for name, token := range mapOf(raw["id_tokens"]) {
		for _, aud := range texts(mapOf(token)["aud"]) {
			d.IDTokens[name] = append(d.IDTokens[name], expand(aud, env))
		}
	}
	switch e := raw["environment"].(type) {
	case string:
		d.Environment = &jobEnvironment{Name: expand(e, env), Action: "start"}
	case map[string]any:
		// The address may use variables that the job hands over, so it is left as it is until the job's end.
		d.Environment = &jobEnvironment{Name: expand(text(e, "name"), env), URL: expandKnown(text(e, "url"), env), Action: text(e, "action"), Tier: expand(text(e, "deployment_tier"), env),
			OnStop: text(e, "on_stop"), StopIn: expand(text(e, "auto_stop_in"), env)}
		if d.Environment.Action == "" {
			d.Environment.Action = "start"
		}
	}
	d.ResourceGroup = expand(text(raw, "resource_group"), env)
	d.Timeout = text(raw, "timeout")
	switch r := raw["retry"].(type) {
	case map[string]any:
		d.Retry = retry{Max: first(numbers(r["max"])), When: texts(r["when"]), Codes: numbers(r["exit_codes"])}
	case nil:
	default:
		d.Retry.Max = first(numbers(r))
	}
	artifacts := mapOf(raw["artifacts"])
	d.ArtifactsWhen, d.ExpireIn = text(artifacts, "when"), text(artifacts, "expire_in")
	for _, tag := range texts(raw["tags"]) {
		d.Tags = append(d.Tags, expand(tag, env))
	}
	for _, file := range texts(mapOf(artifacts["reports"])["dotenv"]) {
		d.Dotenv = append(d.Dotenv, expand(file, env))
	}
	return d
}

// retries says whether another attempt is due after this failure.
func (r retry) retries(reason string, code *int, attempts int) bool {
	if attempts > r.Max {
		return false
	}
	if len(r.When) == 0 && len(r.Codes) == 0 {
		return true
	}
	return slices.Contains(r.When, "always") || slices.Contains(r.When, reason) || code != nil && slices.Contains(r.Codes, *code)
}

// expand replaces $NAME and ${NAME} by variables, also inside their values, as GitLab does in keywords.
func expand(s string, env map[string]string) string { return expandWith(s, env, false) }

// expandKnown leaves what it does not know.
func expandKnown(s string, env map[string]string) string { return expandWith(s, env, true) }

func expandWith(s string, env map[string]string, keep bool) string {
	for depth := 0; depth < 10 && strings.Contains(s, "$"); depth++ {
		next := expandOnce(s, env, keep)
		if next == s {
			break
		}
		s = next
	}
	return s
}

func expandOnce(s string, env map[string]string, keep bool) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '$' {
			b.WriteByte(s[i])
			continue
		}
		j := i + 1
		braced := j < len(s) && s[j] == '{'
		if braced {
			j++
		}
		from := j
		for j < len(s) && (s[j] == '_' || s[j] >= '0' && s[j] <= '9' || s[j] >= 'A' && s[j] <= 'Z' || s[j] >= 'a' && s[j] <= 'z') {
			j++
		}
		name := s[from:j]
		if name == "" || braced && (j >= len(s) || s[j] != '}') {
			b.WriteByte('$')
			continue
		}
		if !braced {
			j--
		}
		if value, ok := env[name]; ok || !keep {
			b.WriteString(value)
		} else {
			b.WriteString(s[i : j+1])
		}
		i = j
	}
	return b.String()
}

func mapOf(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

func textMap(v any) map[string]string {
	out := map[string]string{}
	for k, v := range mapOf(v) {
		if m, ok := v.(map[string]any); ok {
			v = m["value"]
		}
		if v != nil {
			out[k] = fmt.Sprint(v)
		}
	}
	return out
}

func texts(v any) []string {
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		var out []string
		for _, one := range v {
			out = append(out, fmt.Sprint(one))
		}
		return out
	default:
		return []string{fmt.Sprint(v)}
	}
}

func numbers(v any) []int {
	var out []int
	for _, t := range texts(v) {
		if n, err := strconv.Atoi(t); err == nil {
			out = append(out, n)
		}
	}
	return out
}

func first(n []int) int {
	if len(n) == 0 {
		return 0
	}
	return n[0]
}
