// Command kubelet-serving-approver approves the serving certificates of kubelets, as a
// part of EKS does that is not public: the controller manager signs them, but nobody in
// Kubernetes approves them. It watches, and runs until it is killed.
//
//	kubelet-serving-approver KUBECONFIG
package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"log"
	"net"
	"os"
	"slices"

	certificates "k8s.io/api/certificates/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	internal "k8s.io/kubernetes/pkg/apis/certificates"
	parser "k8s.io/kubernetes/pkg/apis/certificates/v1"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: kubelet-serving-approver KUBECONFIG")
	}
	config, err := clientcmd.BuildConfigFromFlags("", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	client := kubernetes.NewForConfigOrDie(config)
	factory := informers.NewSharedInformerFactory(client, 0)
	requests := factory.Certificates().V1().CertificateSigningRequests()
	nodes := factory.Core().V1().Nodes()

	// A request can come before its node has addresses: whatever changes, all that
	// wait are looked at again.
	changed := make(chan struct{}, 1)
	note := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	for _, informer := range []cache.SharedIndexInformer{requests.Informer(), nodes.Informer()} {
		if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { note() },
			UpdateFunc: func(any, any) { note() },
		}); err != nil {
			log.Fatal(err)
		}
	}
	ctx := context.Background()
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	for range changed {
		all, err := requests.Lister().List(labels.Everything())
		if err != nil {
			log.Fatal(err)
		}
		for _, request := range all {
			if len(request.Status.Conditions) > 0 || request.Spec.SignerName != certificates.KubeletServingSignerName {
				continue
			}
			err := check(request, nodes.Lister().Get)
			if err == nil {
				err = approve(ctx, client, request)
			}
			if err != nil {
				log.Printf("%s of %s is not approved: %v", request.Name, request.Spec.Username, err)
			}
		}
	}
}

// check says why a request must wait: only a node may ask, for itself alone, and for
// no name or address that is not the node's.
func check(request *certificates.CertificateSigningRequest, find func(string) (*core.Node, error)) error {
	asked, err := parser.ParseCSR(request.Spec.Request)
	if err != nil {
		return err
	}
	usages := sets.NewString()
	for _, usage := range request.Spec.Usages {
		usages.Insert(string(usage))
	}
	if err := internal.ValidateKubeletServingCSR(asked, usages); err != nil {
		return err
	}
	if asked.Subject.CommonName != request.Spec.Username {
		return fmt.Errorf("it is for %s", asked.Subject.CommonName)
	}
	if !slices.Contains(request.Spec.Groups, "system:nodes") {
		return fmt.Errorf("who asks is no node")
	}
	node, err := find(request.Spec.Username[len("system:node:"):])
	if err != nil {
		return err
	}
	return checkNames(asked, node.Status.Addresses)
}

// checkNames says which name or address is not the node's.
func checkNames(asked *x509.CertificateRequest, addresses []core.NodeAddress) error {
	for _, name := range asked.DNSNames {
		if !slices.ContainsFunc(addresses, func(one core.NodeAddress) bool { return one.Address == name }) {
			return fmt.Errorf("the node is not named %s", name)
		}
	}
	for _, address := range asked.IPAddresses {
		if !slices.ContainsFunc(addresses, func(one core.NodeAddress) bool {
			return net.ParseIP(one.Address).Equal(address)
		}) {
			return fmt.Errorf("the node has no address %s", address)
		}
	}
	return nil
}

func approve(ctx context.Context, client kubernetes.Interface, request *certificates.CertificateSigningRequest) error {
	approved := request.DeepCopy()
	approved.Status.Conditions = append(approved.Status.Conditions, certificates.CertificateSigningRequestCondition{
		Type:    certificates.CertificateApproved,
		Status:  core.ConditionTrue,
		Reason:  "AutoApproved",
		Message: "a kubelet's serving certificate, for the names of its own node",
	})
	_, err := client.CertificatesV1().CertificateSigningRequests().
		UpdateApproval(ctx, request.Name, approved, meta.UpdateOptions{})
	return err
}
