package awsfront

import (
	"errors"
	"net/http"
	"slices"
	"strings"
)

func (f *Front) createEntry(c *call, cluster *Cluster, _ []string) (any, *apiError) {
	var in entryInput
	if refused := c.bind(&in); refused != nil {
		return nil, refused
	}
	if refused := in.check(); refused != nil {
		return nil, refused
	}
	account, name, ok := roleARN(in.PrincipalARN)
	switch {
	case !ok:
		return nil, badParameter("The specified principalArn is invalid: the sandbox takes IAM roles only.")
	case in.Type != "" && in.Type != "STANDARD":
		return nil, badParameter("The access entry type %s is not valid: the sandbox takes STANDARD only.", in.Type)
	}
	if _, err := f.lookUpRole(c.r.Context(), in.PrincipalARN); errors.Is(err, errNoRole) {
		return nil, badParameter("The specified principalArn is invalid: invalid principal.")
	} else if err != nil {
		return nil, internal(err)
	}
	now := epoch(f.now())
	e := &accessEntry{
		AccessEntryARN: "arn:aws:eks:" + cluster.Region + ":" + c.caller.Account + ":access-entry/" + cluster.Name + "/role/" + account + "/" + name + "/" + requestID(),
		ClusterName:    cluster.Name, PrincipalARN: in.PrincipalARN, KubernetesGroups: []string{}, Tags: map[string]string{},
		Username: in.Username, Type: "STANDARD", CreatedAt: now, ModifiedAt: now,
	}
	if e.Username == "" {
		e.Username = "arn:aws:sts::" + account + ":assumed-role/" + name + "/{{SessionName}}"
	}
	if in.KubernetesGroups != nil {
		e.KubernetesGroups = *in.KubernetesGroups
	}
	if in.Tags != nil {
		e.Tags = *in.Tags
	}
	shown := e.shown()
	return shown, f.store.change(func(d *data) *apiError {
		if d.Entries[cluster.Name][in.PrincipalARN] != nil {
			return refuse(http.StatusConflict, "ResourceInUseException", "The specified access entry resource is already in use on this cluster.")
		}
		if d.Entries[cluster.Name] == nil {
			d.Entries[cluster.Name] = map[string]*accessEntry{}
		}
		d.Entries[cluster.Name][in.PrincipalARN] = e
		return nil
	})
}

// entryOf finds the entry; the store must be held.
func (d *data) entryOf(cluster, principal string) (*accessEntry, *apiError) {
	if e := d.Entries[cluster][principal]; e != nil {
		return e, nil
	}
	return nil, refuse(http.StatusNotFound, "ResourceNotFoundException", "The specified principalArn could not be found. You can view your available access entries with 'list-access-entries'.")
}

func (f *Front) describeEntry(_ *call, cluster *Cluster, path []string) (answer any, refused *apiError) {
	f.store.read(func(d *data) {
		var e *accessEntry
		if e, refused = d.entryOf(cluster.Name, path[3]); refused == nil {
			answer = e.shown()
		}
	})
	return answer, refused
}

func (f *Front) listEntries(c *call, cluster *Cluster, _ []string) (any, *apiError) {
	policy := c.r.URL.Query().Get("associatedPolicyArn")
	arns := []string{}
	f.store.read(func(d *data) {
		for arn, e := range d.Entries[cluster.Name] {
			if policy == "" || slices.ContainsFunc(e.Policies, func(p associatedPolicy) bool { return p.PolicyARN == policy }) {
				arns = append(arns, arn)
			}
		}
	})
	slices.Sort(arns)
	return map[string]any{"accessEntries": arns}, nil
}

func (f *Front) updateEntry(c *call, cluster *Cluster, path []string) (answer any, refused *apiError) {
	var in entryInput
	if refused := c.bind(&in); refused != nil {
		return nil, refused
	}
	if refused := in.check(); refused != nil {
		return nil, refused
	}
	refused = f.store.change(func(d *data) *apiError {
		e, refused := d.entryOf(cluster.Name, path[3])
		if refused != nil {
			return refused
		}
		if in.KubernetesGroups != nil {
			e.KubernetesGroups = *in.KubernetesGroups
		}
		if in.Username != "" {
			e.Username = in.Username
		}
		e.ModifiedAt = epoch(f.now())
		answer = e.shown()
		return nil
	})
	return answer, refused
}

func (f *Front) deleteEntry(_ *call, cluster *Cluster, path []string) (any, *apiError) {
	return map[string]any{}, f.store.change(func(d *data) *apiError {
		if _, refused := d.entryOf(cluster.Name, path[3]); refused != nil {
			return refused
		}
		delete(d.Entries[cluster.Name], path[3])
		return nil
	})
}

func (f *Front) associatePolicy(c *call, cluster *Cluster, path []string) (answer any, refused *apiError) {
	var in struct {
		PolicyARN   string      `json:"policyArn"`
		AccessScope accessScope `json:"accessScope"`
	}
	if refused := c.bind(&in); refused != nil {
		return nil, refused
	}
	if in.PolicyARN != clusterAdmin || in.AccessScope.Type != "cluster" || len(in.AccessScope.Namespaces) > 0 {
		return nil, badParameter("The sandbox has no authorizer of EKS: it grants %s with the scope cluster, and no other policy.", clusterAdmin[strings.LastIndexByte(clusterAdmin, '/')+1:])
	}
	in.AccessScope.Namespaces = []string{}
	refused = f.store.change(func(d *data) *apiError {
		e, refused := d.entryOf(cluster.Name, path[3])
		if refused != nil {
			return refused
		}
		now := epoch(f.now())
		p := associatedPolicy{in.PolicyARN, in.AccessScope, now, now}
		if i := slices.IndexFunc(e.Policies, func(p associatedPolicy) bool { return p.PolicyARN == in.PolicyARN }); i >= 0 {
			p.AssociatedAt = e.Policies[i].AssociatedAt
			e.Policies[i] = p
		} else {
			e.Policies = append(e.Policies, p)
		}
		answer = map[string]any{"clusterName": cluster.Name, "principalArn": path[3], "associatedAccessPolicy": p}
		return nil
	})
	return answer, refused
}

func (f *Front) disassociatePolicy(_ *call, cluster *Cluster, path []string) (any, *apiError) {
	return map[string]any{}, f.store.change(func(d *data) *apiError {
		e, refused := d.entryOf(cluster.Name, path[3])
		if refused != nil {
			return refused
		}
		i := slices.IndexFunc(e.Policies, func(p associatedPolicy) bool { return p.PolicyARN == path[5] })
		if i < 0 {
			return refuse(http.StatusNotFound, "ResourceNotFoundException", "The specified policyArn is not associated with the access entry.")
		}
		e.Policies = slices.Delete(e.Policies, i, i+1)
		return nil
	})
}

func (f *Front) listPolicies(_ *call, cluster *Cluster, path []string) (answer any, refused *apiError) {
	f.store.read(func(d *data) {
		var e *accessEntry
		if e, refused = d.entryOf(cluster.Name, path[3]); refused == nil {
			answer = map[string]any{"clusterName": cluster.Name, "principalArn": path[3], "associatedAccessPolicies": append([]associatedPolicy{}, e.Policies...)}
		}
	})
	return answer, refused
}
