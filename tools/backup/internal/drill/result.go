package drill

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gitlab.com/slipway/slipway/tools/backup/internal/artifact"
	"gitlab.com/slipway/slipway/tools/backup/internal/cover"
)

// States of a check.
const (
	Green    = "green"
	Red      = "red"
	Unproven = "unproven"
)

// Check is one check and how it went.
type Check struct {
	Name   string `json:"name"`
	Status string `json:"status"` // green | red | unproven
	Detail string `json:"detail,omitempty"`
}

// Span is a time span, in seconds in JSON.
type Span time.Duration

// Std returns the span as the standard library's.
func (s Span) Std() time.Duration { return time.Duration(s) }

// String returns the span for people.
func (s Span) String() string {
	d := time.Duration(s)
	if d >= time.Minute {
		return d.Round(time.Second).String()
	}
	return d.Round(100 * time.Millisecond).String()
}

// MarshalJSON writes seconds.
func (s Span) MarshalJSON() ([]byte, error) {
	return json.Marshal(time.Duration(s).Round(time.Millisecond).Seconds())
}

// Phase is a part of the recovery time.
type Phase struct {
	Name string `json:"name"` // prepare | restore | ready | checks
	Took Span   `json:"seconds"`
}

// Result is what a drill found. It is drill.json.
type Result struct {
	Name          string            `json:"drill"`
	Schedule      string            `json:"schedule"`
	Environment   string            `json:"environment"`
	Cluster       string            `json:"cluster"`
	VeleroVersion string            `json:"veleroVersion,omitempty"`
	Backup        string            `json:"backup"`
	BackupStart   *time.Time        `json:"backupStart,omitempty"`
	Restore       string            `json:"restore,omitempty"`
	RestorePhase  string            `json:"restorePhase,omitempty"`
	Restored      int               `json:"restored"`
	Sources       map[string]string `json:"sources,omitempty"`    // service to source namespace
	Namespaces    map[string]string `json:"namespaces,omitempty"` // source to quarantine
	Declared      time.Time         `json:"declared"`             // the clock of the RTO starts here
	End           time.Time         `json:"end"`
	RecoveryPoint *time.Time        `json:"recoveryPoint,omitempty"`
	RecoveryFrom  string            `json:"recoveryFrom,omitempty"`
	RPO           Span              `json:"rpo"`
	RTO           *Span             `json:"rto"` // null where no check went green
	Phases        []Phase           `json:"phases"`
	Checks        []Check           `json:"checks"`
	Claims        []cover.Claim     `json:"claims,omitempty"`
	Files         []artifact.File   `json:"files,omitempty"`
	Excluded      []Excluded        `json:"excluded"`
	Problems      []string          `json:"problems,omitempty"`
	Unproven      []string          `json:"unproven,omitempty"`
	CleanedUp     bool              `json:"cleanedUp"`
	Verdict       string            `json:"verdict"`
	ExitCode      int               `json:"exitCode"`
}

func (r *Result) problem(format string, args ...any) {
	r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
}

func (r *Result) check(c Check) { r.Checks = append(r.Checks, c) }

// green notes that a check went green: the recovery time ends with the last.
func (r *Result) green(at time.Time) {
	rto := Span(at.Sub(r.Declared))
	r.RTO = &rto
}

// phase adds to the time of a phase.
func (r *Result) phase(name string, took time.Duration) {
	for i := range r.Phases {
		if r.Phases[i].Name == name {
			r.Phases[i].Took += Span(took)
			return
		}
	}
	r.Phases = append(r.Phases, Phase{name, Span(took)})
}

// Write leaves the result as drill.json in a folder.
func (r *Result) Write(dir string, mask func(string) string) error {
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the drill's result: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making the report folder: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "drill.json"), []byte(mask(string(raw))+"\n"), 0o644); err != nil {
		return fmt.Errorf("writing the drill's result: %w", err)
	}
	return nil
}

func (r *Result) text() string {
	var s strings.Builder
	fmt.Fprintf(&s, "drill           %s\nbackup          %s\n", r.Name, r.Backup)
	for _, source := range slices.Sorted(maps.Keys(r.Namespaces)) {
		fmt.Fprintf(&s, "quarantine      %s for %s\n", r.Namespaces[source], source)
	}
	if r.Restore != "" {
		fmt.Fprintf(&s, "restore         %s, %d objects\n", r.RestorePhase, r.Restored)
	}
	if r.RecoveryPoint != nil {
		fmt.Fprintf(&s, "RPO             %s, back to %s: %s\n", r.RPO, r.RecoveryPoint.Format(time.RFC3339), r.RecoveryFrom)
	}
	if r.RTO != nil {
		var parts []string
		for _, p := range r.Phases {
			parts = append(parts, fmt.Sprintf("%s %s", p.Name, p.Took))
		}
		fmt.Fprintf(&s, "RTO             %s: %s\n", *r.RTO, strings.Join(parts, ", "))
	}
	for _, c := range r.Checks {
		fmt.Fprintf(&s, "check           %s: %s; %s\n", c.Name, c.Status, c.Detail)
	}
	for _, u := range r.Unproven {
		fmt.Fprintf(&s, "%s\n", u)
	}
	fmt.Fprintf(&s, "cleaned up      %t\n", r.CleanedUp)
	fmt.Fprintf(&s, "verdict         %s", r.Verdict)
	return s.String()
}
