package netpolicy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	cnitypes "github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
)

// PluginName is the CNI plugin by which a pod waits for its rules. It comes
// after the one that gives the pod its address, and has the member "socket",
// which is that of the enforcer's Options.
const PluginName = "network-policy"

// Plugin is the plugin's main; it returns the exit code.
func Plugin() int {
	nothing := func(*skel.CmdArgs) error { return nil }
	err := skel.PluginMainFuncsWithError(skel.CNIFuncs{Add: announce, Del: nothing, Check: nothing}, version.All, "waits until a pod's network policies are enforced")
	if err == nil {
		return 0
	}
	_ = err.Print() // where stdout is gone nobody reads it
	return 1
}

// announcement tells the enforcer of a pod that is about to start.
type announcement struct {
	UID       string `json:"uid"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Address   string `json:"address"`
}

// answer is the enforcer's. Problem is empty once the rules are set.
type answer struct {
	Problem string `json:"problem"`
}

func (a announcement) String() string { return a.Namespace + "/" + a.Name }

func announce(args *skel.CmdArgs) error {
	var conf struct {
		cnitypes.PluginConf
		Socket string `json:"socket"`
	}
	if err := json.Unmarshal(args.StdinData, &conf); err != nil {
		return fmt.Errorf("reading the plugin's configuration: %w", err)
	}
	if err := version.ParsePrevResult(&conf.PluginConf); err != nil {
		return err
	}
	result, err := current.NewResultFromResult(conf.PrevResult)
	if err != nil {
		return fmt.Errorf("reading the result of the plugin before: %w", err)
	}
	var pod struct {
		cnitypes.CommonArgs
		K8S_POD_UID, K8S_POD_NAMESPACE, K8S_POD_NAME cnitypes.UnmarshallableString
	}
	if err := cnitypes.LoadArgs(args.Args, &pod); err != nil {
		return fmt.Errorf("reading which pod it is: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), announceTimeout)
	defer cancel()
	for _, ip := range result.IPs {
		a := announcement{UID: string(pod.K8S_POD_UID), Namespace: string(pod.K8S_POD_NAMESPACE), Name: string(pod.K8S_POD_NAME), Address: ip.Address.IP.String()}
		if err := a.send(ctx, conf.Socket); err != nil {
			return fmt.Errorf("announcing the pod %q to the enforcer of network policies: %w", a, err)
		}
	}
	return cnitypes.PrintResult(conf.PrevResult, conf.CNIVersion)
}

// announceTimeout is how long a pod may wait for its rules. kubelet tries
// again then.
const announceTimeout = 30 * time.Second

// send waits until the enforcer has set the rules of the pod.
func (a announcement) send(ctx context.Context, socket string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if err := json.NewEncoder(conn).Encode(a); err != nil {
		return err
	}
	var got answer
	if err := json.NewDecoder(conn).Decode(&got); err != nil {
		return err
	}
	if got.Problem != "" {
		return errors.New(got.Problem)
	}
	return nil
}
