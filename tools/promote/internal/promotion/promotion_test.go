package promotion_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/promote/internal/promotion"
)

func snapshot() *landscape.Snapshot {
	return &landscape.Snapshot{Environments: map[string]landscape.Environment{
		"dev": {}, "test": {}, "stage": {Gated: true}, "prod": {Gated: true}, "dr": {Gated: true}}}
}

const full = `apiVersion: slipway/v1
kind: Promotion
order: [dev, test, stage, [prod, dr]]
gates:
  stage: {healthy: 30m, require: [tests]}
  prod:
    healthy: 24h
    require: [tests, {backup: {age: 24h}}, {drill: {age: 30d}}]
    actor: {notAuthor: true}
    freeze: [{from: "2026-12-20 00:00", to: "2027-01-02 06:00", zone: Europe/Warsaw, reason: holidays}]
    rules: ['!candidate.changes.exists(c, "risky" in c.labels)']
lanes:
  hotfix: {from: running, order: [stage, prod], healthy: 15m, mergeBack: required}
  configuration: {healthy: 1h}
`

func TestReadTheWholeForm(t *testing.T) {
	p, err := promotion.Read("promotion.yaml", []byte(full), snapshot())
	if err != nil {
		t.Fatal(err)
	}
	prod := p.Gates["prod"]
	if prod.Healthy.Std() != 24*time.Hour || !prod.Actor.NotAuthor || len(prod.Require) != 3 || prod.Require[2].Name != "drill" || prod.Require[2].Age.Std() != 720*time.Hour || len(prod.Rules) != 1 {
		t.Errorf("gates.prod = %+v", prod)
	}
	if p.Lanes.Hotfix.MergeBack != "required" || p.Lanes.Configuration.Healthy.Std() != time.Hour {
		t.Errorf("lanes = %+v", p.Lanes)
	}
	from, _, err := prod.Freeze[0].Window()
	if want := time.Date(2026, 12, 19, 23, 0, 0, 0, time.UTC); err != nil || !from.Equal(want) {
		t.Errorf("the freeze starts at %v, %v; want %v", from, err, want)
	}
	for _, c := range []struct {
		target string
		of     []string
		want   []string
		found  bool
	}{
		{"stage", []string{"dev", "test", "stage"}, []string{"test"}, true},
		{"stage", []string{"dev", "stage"}, []string{"dev"}, true},
		{"prod", []string{"dev", "stage", "prod"}, []string{"stage"}, true},
		{"dev", []string{"dev"}, nil, true},
		{"review", []string{"dev"}, nil, false},
	} {
		if got, found := p.Before(c.target, c.of); !slices.Equal(got, c.want) || found != c.found {
			t.Errorf("Before(%q, %v) = %v, %v; want %v, %v", c.target, c.of, got, found, c.want, c.found)
		}
	}
}

// TestProblemsAllAtOnce holds each problem to its exact line.
func TestProblemsAllAtOnce(t *testing.T) {
	_, err := promotion.Read("promotion.yaml", []byte(`apiVersion: slipway/v1
kind: Promotion
order: [dev, stag, stage, [prod, dev]]
gates:
  dev: {healthy: 5m}
  prd: {}
  stage:
    helthy: 30m
    require: [test, {backup: {}}, {drill: {age: soon}}]
    freeze:
      - {from: "2026-12-20", to: "2027-01-02 06:00", zone: Europe/Warsaw, reason: a}
      - {from: "2027-01-02 06:00", to: "2026-12-20 00:00", zone: Europe/Warsaw, reason: b}
      - {from: "2026-12-20 00:00", to: "2027-01-02 06:00", zone: Europe/Warschau, reason: c}
    rules: [""]
lanes:
  hotfix: {from: running, order: [stage, prdo], mergeBack: later}
`), snapshot())
	want := []string{
		`:3:14: order[1]: the landscape has no environment "stag"; it has dev, dr, prod, stage, test`,
		`:3:34: order[3][1]: environment "dev" stands in the order twice; it is already at order[0]`,
		`:5:8: gates.dev: environment "dev" is not gated in the landscape, so that nothing would evaluate this gate; set gated: true there, or leave the gate out`,
		`:5:18: gates.dev.healthy: it is the first of the order: there is no environment before it to have been healthy in; leave it out`,
		`:6:8: gates.prd: the landscape has no environment "prd"; it has dev, dr, prod, stage, test`,
		`:8:5: gates.stage.helthy: unknown field; did you mean "healthy"?`,
		`:9:15: gates.stage.require[0]: "test" is not known here; it is tests, {backup: {age: 24h}} or {drill: {age: 30d}}`,
		`:9:30: gates.stage.require[1].backup.age: the field is missing; it must be set`,
		`:9:49: gates.stage.require[2].drill.age: reading duration "soon": it is a number with a unit, such as 90s, 10m, 36h, 7d, 2w`,
		`gates.stage.freeze[0]: reading "2026-12-20": `,
		`gates.stage.freeze[1]: the freeze ends at "2026-12-20 00:00", not after its start "2027-01-02 06:00"; from must be before to`,
		`gates.stage.freeze[2]: finding time zone "Europe/Warschau": `,
		`:14:13: gates.stage.rules[0]: the rule is empty; write a CEL expression`,
		`:16:42: lanes.hotfix.order[1]: the landscape has no environment "prdo"; it has dev, dr, prod, stage, test`,
		`:16:60: lanes.hotfix.mergeBack: "later" is not known here; it is one of required, none`,
	}
	if err == nil || tool.CodeOf(err) != tool.Usage {
		t.Fatalf("got %v (code %d), want problems", err, tool.CodeOf(err))
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("missing %q", w)
		}
	}
	if got := strings.Count(err.Error(), "promotion.yaml:"); got != len(want) {
		t.Errorf("%d problems, want %d", got, len(want))
	}
	if t.Failed() {
		t.Log(err)
	}
}
