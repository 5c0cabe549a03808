package box

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"gitlab.com/slipway/slipway/sandbox/internal/node"
)

// makePKI makes the keys and certificates of a cluster, once.
func makePKI(dir string, network node.Network) error {
	if exists(dir) {
		return nil
	}
	aside, err := os.MkdirTemp(filepath.Dir(dir), ".pki-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(aside)
	ca, err := newIssuer(aside)
	if err != nil {
		return err
	}
	ca.addresses = []net.IP{net.IPv4(127, 0, 0, 1), network.APIServer().AsSlice(), network.Host().AsSlice()}
	if err := ca.issue(aside, "server", pkix.Name{CommonName: "kube-apiserver"}, x509.ExtKeyUsageServerAuth); err != nil {
		return err
	}
	for name, subject := range map[string]pkix.Name{
		"admin":          {CommonName: "sandbox-admin", Organization: []string{"system:masters"}},
		"kubelet":        {CommonName: "system:node:" + nodeName, Organization: []string{"system:nodes"}},
		"kube-proxy":     {CommonName: "system:kube-proxy"},
		"network-policy": {CommonName: policyUser},
	} {
		if err := ca.issue(aside, name, subject, x509.ExtKeyUsageClientAuth); err != nil {
			return err
		}
	}
	key, err := newKey(filepath.Join(aside, "sa.key"))
	if err != nil {
		return err
	}
	pub, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	if err := writePEM(filepath.Join(aside, "sa.pub"), "PUBLIC KEY", pub); err != nil {
		return err
	}
	return os.Rename(aside, dir) // a folder that exists is whole
}

type issuer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	// addresses of the API server
	addresses []net.IP
}

func newIssuer(dir string) (*issuer, error) {
	key, err := newKey(filepath.Join(dir, "ca.key"))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sandbox"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("making a certificate authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &issuer{cert: cert, key: key}, writePEM(filepath.Join(dir, "ca.crt"), "CERTIFICATE", der)
}

func (ca *issuer) issue(dir, name string, subject pkix.Name, usage x509.ExtKeyUsage) error {
	key, err := newKey(filepath.Join(dir, name+".key"))
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: subject, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
	}
	if usage == x509.ExtKeyUsageServerAuth {
		template.DNSNames = []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}
		template.IPAddresses = ca.addresses
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		return fmt.Errorf("making the certificate %q: %w", name, err)
	}
	return writePEM(filepath.Join(dir, name+".crt"), "CERTIFICATE", der)
}

func newKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	return key, writePEM(path, "EC PRIVATE KEY", der)
}

func writePEM(path, kind string, der []byte) error {
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		return fmt.Errorf("writing %q: %w", path, err)
	}
	return nil
}
