package helmrelease

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/strvals"

	"gitlab.com/slipway/slipway/pkg/tool"
)

// Assign puts values that are written as for helm's --set into values, and
// returns what was written alone.
func Assign(text string, values map[string]any) (map[string]any, error) {
	alone, err := strvals.Parse(text)
	if err == nil {
		err = strvals.ParseInto(text, values)
	}
	if err != nil {
		return nil, tool.Exit(tool.Usage, fmt.Errorf("reading --set: %w", err), "it is path=value, such as replicas=3 or ports[0].name=http; a comma separates two")
	}
	return alone, nil
}

// Violation is a value that the schema of a chart does not allow.
type Violation struct {
	Chart   string
	Path    []string
	Message string
}

// Effective returns the values as templates will see them, the chart's
// defaults beneath, and everything that the schemas of the chart and its
// dependencies do not allow.
func (c *Chart) Effective(values map[string]any) (map[string]any, []Violation, error) {
	own := duplicate(c.c)
	given, _ := duplicateValue(values).(map[string]any)
	err := chartutil.ProcessDependenciesWithMerge(own, given)
	var all chartutil.Values
	if err == nil {
		all, err = chartutil.CoalesceValues(own, given)
	}
	if err != nil {
		return nil, nil, tool.Exit(tool.Usage, fmt.Errorf("putting the values of chart %q together: %w", c.Name(), err))
	}
	found, err := violations(own, all, nil)
	return all, found, err
}

func violations(c *chart.Chart, values map[string]any, at []string) (out []Violation, err error) {
	if c.Schema != nil {
		if out, err = against(c, values, at); err != nil {
			return nil, err
		}
	}
	for _, d := range c.Dependencies() {
		sub, isMap := values[d.Name()].(map[string]any)
		if !isMap { // none given; another form has been refused before
			continue
		}
		more, err := violations(d, sub, append(slices.Clone(at), d.Name()))
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	return out, nil
}

// against holds values to the schema of one chart. Only a schema that stands
// for itself is read here: where one refers to files or addresses, Helm's own
// check at rendering decides.
func against(c *chart.Chart, values map[string]any, at []string) (out []Violation, err error) {
	defer func() {
		if r := recover(); r != nil { // the compiler's way to say no to some schemas
			err = badChart(c.Name(), fmt.Errorf("reading values.schema.json: %v", r))
		}
	}()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(c.Schema))
	if err != nil {
		return nil, badChart(c.Name(), fmt.Errorf("reading values.schema.json: %w", err))
	}
	compiler := jsonschema.NewCompiler()
	compiler.UseLoader(elsewhere{})
	const name = "file:///values.schema.json"
	if err := compiler.AddResource(name, doc); err != nil {
		return nil, badChart(c.Name(), fmt.Errorf("reading values.schema.json: %w", err))
	}
	schema, err := compiler.Compile(name)
	var outside *jsonschema.LoadURLError
	if errors.As(err, &outside) {
		return nil, nil
	}
	if err != nil {
		return nil, badChart(c.Name(), fmt.Errorf("reading values.schema.json: %w", err))
	}
	var failed *jsonschema.ValidationError
	if errors.As(schema.Validate(values), &failed) {
		leaves(failed, func(e *jsonschema.ValidationError) { out = append(out, told(c.Name(), at, e)...) })
	}
	return out, nil
}

// leaves visits what is wrong in itself, not through something below it.
func leaves(e *jsonschema.ValidationError, visit func(*jsonschema.ValidationError)) {
	if len(e.Causes) == 0 {
		visit(e)
	}
	for _, cause := range e.Causes {
		leaves(cause, visit)
	}
}

// told turns an error into violations: a property too many is told where it is
// written, not where the map around it begins.
func told(chart string, at []string, e *jsonschema.ValidationError) (out []Violation) {
	where := append(slices.Clone(at), e.InstanceLocation...)
	extra, ok := e.ErrorKind.(*kind.AdditionalProperties)
	if !ok {
		return []Violation{{chart, where, e.ErrorKind.LocalizedString(message.NewPrinter(language.English))}}
	}
	for _, p := range extra.Properties {
		out = append(out, Violation{chart, append(slices.Clone(where), p), "there is no value of this name"})
	}
	return out
}

type elsewhere struct{}

// Load refuses to fetch what a schema refers to.
func (elsewhere) Load(string) (any, error) {
	return nil, errors.New("the schema refers to something outside of itself")
}

// Describe returns a violation as a line. origin says where a value was
// written, or nothing.
func (v Violation) Describe(origin func([]string) string) string {
	where := origin(v.Path)
	if where == "" {
		where = "the defaults of chart " + v.Chart
	}
	name := strings.Join(v.Path, ".")
	if name == "" {
		name = "the values"
	}
	return fmt.Sprintf("%s: %s: %s", where, name, v.Message)
}
