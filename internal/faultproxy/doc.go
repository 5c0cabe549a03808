// Package faultproxy stands, in tests, before any HTTP part that a program
// talks to (AWS, GitLab, an S3 gateway, a registry, a Kubernetes API server),
// on loopback, and makes go wrong what goes wrong on a network: calls that
// never arrive, replies that are lost, delays, throttles in the part's own
// words, replies that are cut, too long, or somebody else's page. What happens
// to the n-th call is decided by the rules and a seed alone. Signed requests
// stay valid, watches and upgrades pass.
//
// A proxy is started before a part, and the program is given the proxy's
// address for the part's:
//
//	proxy, err := faultproxy.Start(faultproxy.Config{
//		Part: faultproxy.GitLab(), Upstream: gitlab.URL, Seed: 1,
//		Rules: []faultproxy.Rule{
//			{Match: faultproxy.Match{Method: "POST", Nth: 2}, Fault: faultproxy.DropAfter()},
//			{Match: faultproxy.Match{Probability: 0.1}, Fault: faultproxy.Throttle(time.Second)},
//		}})
//
// Proxy.Log keeps every call in its order, with its name and whether it
// changes something.
//
// A Schedule is made of such a log: it runs a program once, and then kills it
// (SIGKILL, with all that it started) before and after each of the mutating
// calls of that run (where a connection is upgraded, before and during it), runs
// it again, and asks the test whether all is well. Its tests are called
// TestKillSchedule..., so that make chaos finds them, and end with Report; see
// tools/bootstrap for one.
package faultproxy
