package box

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"gitlab.com/slipway/slipway/pkg/tool"

	"gitlab.com/slipway/slipway/sandbox/internal/buildcache"
	"gitlab.com/slipway/slipway/sandbox/internal/process"
)

// goProgram is a program built from a module of its own under sandbox/build.
type goProgram struct {
	name, cold string
	pkg        string // the package to build: "." is a main.go of ours
	extra      func(ctx context.Context, module, out string) error
	image      *v1.Config // what it is packed as, for real nodes
}

func goPrograms() []goProgram {
	return []goProgram{
		{name: "versitygw", cold: "3 min", pkg: "github.com/versity/versitygw/cmd/versitygw"},
		{name: "crane", cold: "20 s", pkg: "github.com/google/go-containerregistry/cmd/crane"},
		{name: "kwok", cold: "4 min", pkg: "sigs.k8s.io/kwok/cmd/kwok", extra: kwokStages},
		{name: "velero", cold: "7 min", pkg: ".", extra: veleroCRDs},
		{name: "velero-plugin-for-aws", cold: "3 min", pkg: "github.com/vmware-tanzu/velero-plugin-for-aws/velero-plugin-for-aws"},
		{name: "kubernetes", cold: "12 min", pkg: "."},
	}
}

// Build makes every heavy program, or finds it in the cache.
func (b *Box) build(ctx context.Context) error {
	dir, err := buildcache.Dir(b.Env)
	if err != nil {
		return err
	}
	cache := &buildcache.Cache{Dir: dir, Say: b.say}
	b.programs = map[string]string{}
	get := func(ctx context.Context, i buildcache.Item) error {
		folder, err := cache.Get(ctx, i)
		if err != nil {
			return err
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.programs[i.Name] = folder
		return nil
	}
	programs := goPrograms()
	if b.Node {
		programs = append(programs, nodePrograms()...)
	}
	items := []buildcache.Item{}
	for _, p := range programs {
		items = append(items, b.goItem(p))
	}
	var fetched []buildcache.Item
	if b.Node {
		items = append(items, b.veleroImage())
		fetched = b.debianImages()
	}
	if needsTofu(ctx) {
		items = append(items, b.goItem(goProgram{name: "tofu", cold: "6 min", pkg: "github.com/opentofu/opentofu/cmd/tofu"}))
	}
	// The compiler uses every core by itself; what npm, pip and apt fetch
	// comes beside it.
	group, ctx := errgroup.WithContext(ctx)
	inTurn := func(items []buildcache.Item) func() error {
		return func() error {
			for _, i := range items {
				if err := get(ctx, i); err != nil {
					return err
				}
			}
			return nil
		}
	}
	group.Go(inTurn(items))
	group.Go(inTurn(fetched))
	group.Go(func() error { return get(ctx, b.motoItem()) })
	group.Go(func() error { return get(ctx, b.ciLocalItem()) })
	return group.Wait()
}

// Tool builds one program that is no part of the sandbox, such as the linter,
// and returns its path.
func Tool(ctx context.Context, cfg Config, name string) (string, error) {
	b := &Box{Config: cfg}
	i := slices.IndexFunc(repositoryTools(), func(p goProgram) bool { return p.name == name })
	if i < 0 {
		return "", tool.Exit(tool.Usage, fmt.Errorf("building %q: it is no tool of the repository", name))
	}
	dir, err := buildcache.Dir(b.Env)
	if err != nil {
		return "", err
	}
	folder, err := (&buildcache.Cache{Dir: dir, Say: b.say}).Get(ctx, b.goItem(repositoryTools()[i]))
	return filepath.Join(folder, name), err
}

// repositoryTools are programs that work on the repository itself.
func repositoryTools() []goProgram {
	return []goProgram{{name: "golangci-lint", cold: "2 min", pkg: "github.com/golangci/golangci-lint/v2/cmd/golangci-lint"}}
}

// program is the path of a built Go program.
func (b *Box) program(name string) string { return filepath.Join(b.programs[name], name) }

func (b *Box) buildDir(name string) string { return filepath.Join(b.Root, "sandbox", "build", name) }

// buildPart is the mark on what builds for an `up`.
const buildPart = "build"

// beginBuilding ends what an `up` that was killed while it built has left: the
// kernel ends the tools with it, and not what these have started.
func (b *Box) beginBuilding(ctx context.Context) error {
	b.marks = []string{process.Mark + "=" + b.Dir, process.PartMark + "=" + buildPart}
	return b.clear(ctx, buildPart)
}

// tool runs a tool that builds. Its temporary files go with the build.
func (b *Box) tool(ctx context.Context, s buildcache.Site, dir string, env []string, argv ...string) error {
	return run(ctx, s.Log, dir, slices.Concat(env, b.marks, []string{"TMPDIR=" + s.Tmp, "GOTMPDIR=" + s.Tmp}), argv...)
}

// run runs a tool with its output in the log.
func run(ctx context.Context, log io.Writer, dir string, env []string, argv ...string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.Env = append(os.Environ(), env...)
	if err := process.RunChild(cmd); err != nil {
		return fmt.Errorf("running %q: %w", strings.Join(argv, " "), err)
	}
	return nil
}

// output returns the first line that a tool prints.
func output(ctx context.Context, dir string, argv ...string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := process.RunChild(cmd); err != nil {
		return "", fmt.Errorf("running %q: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(stderr.String()))
	}
	line, _, _ := strings.Cut(stdout.String(), "\n")
	return strings.TrimSpace(line), nil
}
