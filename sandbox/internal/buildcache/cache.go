// Package buildcache builds the sandbox's heavy programs once for a user and
// finds them again: what was built from the same folder with the same tools
// is there under the same key. It is built aside and renamed, so that a
// folder that exists is whole.
package buildcache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"gitlab.com/slipway/slipway/sandbox/internal/process"
)

// Item is something to build.
type Item struct {
	Name string
	Cold string   // how long it takes with nothing cached, for the progress line
	From []string // files and folders whose content it is made of, the source of its recipe among them
	// Tools names the versions of what builds it. They are part of the key.
	Tools func(ctx context.Context) ([]string, error)
	Build func(ctx context.Context, s Site) error
}

// Site is where an item is built.
type Site struct {
	Out string    // the folder to make it in
	Tmp string    // for temporary files, which go with the build, also with one that is killed
	Log io.Writer // for what the tools say
}

// Cache is a folder of built items.
type Cache struct {
	Dir  string
	Say  func(format string, args ...any)
	Tick time.Duration // between two progress lines; 20 s where it is 0

	once sync.Mutex
}

// Dir returns the cache's folder: SLIPWAY_CACHE or the user's cache folder.
func Dir(env func(string) string) (string, error) {
	if d := env("SLIPWAY_CACHE"); d != "" {
		return filepath.Abs(d)
	}
	d, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding the user's cache folder: %w", err)
	}
	return filepath.Join(d, "slipway"), nil
}

// Key names a build of the item: a hash over the content of its files, their
// names, whether they can be run, and the versions of its tools.
func (i Item) Key(ctx context.Context) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n", i.Name)
	tools, err := i.Tools(ctx)
	if err != nil {
		return "", err
	}
	for _, t := range tools {
		fmt.Fprintf(h, "tool %s\n", t)
	}
	for _, root := range i.From {
		if err := hashTree(h, root); err != nil {
			return "", fmt.Errorf("hashing %q: %w", root, err)
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:20], nil
}

func hashTree(h io.Writer, root string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if d.Name() == "node_modules" {
				return filepath.SkipDir
			}
			return nil
		}
		rel, err := filepath.Rel(filepath.Dir(root), path)
		if err != nil {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		// git keeps of a mode no more than whether the file can be run.
		_, err = fmt.Fprintf(h, "file %s %t %d\n%s\n", filepath.ToSlash(rel), info.Mode()&0o100 != 0, len(raw), raw)
		return err
	})
}

// Get returns the folder of the item, built if it has to be.
func (c *Cache) Get(ctx context.Context, i Item) (string, error) {
	key, err := i.Key(ctx)
	if err != nil {
		return "", fmt.Errorf("building %q: %w", i.Name, err)
	}
	done := filepath.Join(c.Dir, i.Name+"-"+key)
	if _, err := os.Stat(done); err == nil {
		return done, nil
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return "", fmt.Errorf("making the build cache: %w", err)
	}
	lock, err := c.lock(ctx, i)
	if err != nil {
		return "", err
	}
	defer lock.Unlock()
	if _, err := os.Stat(done); err == nil { // another process was faster
		return done, nil
	}
	return done, c.build(ctx, i, done)
}

// lock keeps two processes from building the same item at once.
func (c *Cache) lock(ctx context.Context, i Item) (*process.Lock, error) {
	path := c.lockPath(i.Name)
	lock, err := process.TryLock(path)
	if err != nil || lock != nil {
		return lock, err
	}
	stop := c.progress(ctx, i.Name+": waiting for another process that builds it")
	defer stop()
	return process.WaitLock(ctx, path)
}

func (c *Cache) build(ctx context.Context, i Item, done string) (err error) {
	if err := c.sweep(i.Name); err != nil {
		return fmt.Errorf("building %q: %w", i.Name, err)
	}
	work, err := os.MkdirTemp(c.Dir, asidePrefix(i.Name)+"*")
	if err != nil {
		return fmt.Errorf("building %q: %w", i.Name, err)
	}
	defer os.RemoveAll(work)
	site := Site{Out: filepath.Join(work, "out"), Tmp: filepath.Join(work, "tmp")}
	if err := errors.Join(os.Mkdir(site.Out, 0o755), os.Mkdir(site.Tmp, 0o700)); err != nil {
		return fmt.Errorf("building %q: %w", i.Name, err)
	}
	logPath := filepath.Join(c.Dir, i.Name+".log")
	log, err := os.Create(logPath)
	if err != nil {
		return fmt.Errorf("building %q: %w", i.Name, err)
	}
	defer log.Close()
	site.Log = log
	start := time.Now()
	c.say("building %s (about %s cold)", i.Name, i.Cold)
	stop := c.progress(ctx, "building "+i.Name)
	err = i.Build(ctx, site)
	stop()
	if err != nil {
		return fmt.Errorf("building %q: %w", i.Name, withTail(err, logPath))
	}
	if err := os.Rename(site.Out, done); err != nil {
		return fmt.Errorf("building %q: %w", i.Name, err)
	}
	c.say("built %s in %s", i.Name, time.Since(start).Round(100*time.Millisecond))
	return nil
}

const aside = ".building-"

func asidePrefix(name string) string { return aside + name + "." }

// Sweep removes what killed builds have left, of items that nobody builds at
// the time.
func (c *Cache) Sweep() error {
	left, err := filepath.Glob(filepath.Join(c.Dir, aside+"*"))
	if err != nil {
		return fmt.Errorf("sweeping the build cache: %w", err)
	}
	for _, dir := range left {
		name := strings.TrimPrefix(filepath.Base(dir), aside)
		name = name[:max(strings.LastIndexByte(name, '.'), 0)]
		lock, err := process.TryLock(c.lockPath(name))
		if err != nil {
			return fmt.Errorf("sweeping the build cache: %w", err)
		}
		if lock == nil {
			continue
		}
		err = c.sweep(name)
		lock.Unlock()
		if err != nil {
			return fmt.Errorf("sweeping the build cache: %w", err)
		}
	}
	return nil
}

func (c *Cache) lockPath(name string) string { return filepath.Join(c.Dir, "."+name+".lock") }

// sweep removes what killed builds of the item have left; the caller holds the lock.
func (c *Cache) sweep(name string) error {
	left, err := filepath.Glob(filepath.Join(c.Dir, asidePrefix(name)+"*"))
	if err != nil {
		return err
	}
	for _, dir := range left {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}

// progress says every 20 seconds that the work goes on.
func (c *Cache) progress(ctx context.Context, what string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	tick := c.Tick
	if tick == 0 {
		tick = 20 * time.Second
	}
	start := time.Now()
	var ended sync.WaitGroup
	ended.Go(func() {
		t := time.NewTicker(tick)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				c.say("%s: %s so far", what, time.Since(start).Round(time.Second))
			}
		}
	})
	return func() { cancel(); ended.Wait() }
}

func (c *Cache) say(format string, args ...any) {
	c.once.Lock()
	defer c.once.Unlock()
	if c.Say != nil {
		c.Say(format, args...)
	}
}

// withTail adds the last lines of a log to an error.
func withTail(err error, path string) error {
	if tail := process.Tail(path, 12); tail != "" {
		return fmt.Errorf("%w\n%s\nthe whole log is %s", err, tail, path)
	}
	return err
}
