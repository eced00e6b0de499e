#!/bin/bash
# What cloud-init and a script of a person do instead of first boot: its steps, in its
# order, with what is at hand in the image. The variables before this line name the
# cluster and the node; /var/lib/join-files.tar.gz holds the node's files. It tells its
# milestones in the words of first boot, so that both boots are followed alike.
# shellcheck disable=SC2154
set -euo pipefail
say() { echo "nodekiln-firstboot: $*" >/dev/console; }
trap 'say "failed: line $LINENO of the script"' ERR
retry() {
  local n
  for n in 1 2 4 8 16; do "$@" && return; sleep $n; done
  "$@"
}
say started

# The machine carries nobody else's identity; the certificate and its key are there.
[ ! -e /var/lib/kubelet/pki ] && [ ! -e /var/lib/amazon/ssm/registration ]
[ -s /etc/iam/pki/server.pem ] && [ -s /etc/iam/pki/server.key ]
say "node configuration from a script"

# What is there, and who can be reached.
kubelet --version >/dev/null
containerd --version >/dev/null
[ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]
reach() { timeout 5 bash -c "exec 3<>/dev/tcp/$1/443"; }
retry reach "rolesanywhere.$region.amazonaws.com"
retry reach "${endpoint#https://}"

# Files, the service manager, the kernel, swap.
tar -C / -xzf /var/lib/join-files.tar.gz
systemctl daemon-reload
modprobe -a overlay br_netfilter
sysctl --quiet --system
swapoff --all

# The cluster takes the node's token.
token() {
  AWS_PROFILE=default AWS_CONFIG_FILE=/etc/aws/hybrid/config HOME=/root \
    aws-iam-authenticator token --cluster-id "$cluster" --region "$region" |
    sed -n 's/.*"token": *"\([^"]*\)".*/\1/p'
}
ask() {
  python3 - "$endpoint" "$(token)" <<'PYTHON'
import ssl, sys, urllib.request
context = ssl.create_default_context(cafile="/etc/kubernetes/pki/ca.crt")
request = urllib.request.Request(
    sys.argv[1] + "/api/v1/namespaces/default/endpoints/kubernetes",
    headers={"authorization": "Bearer " + sys.argv[2]})
urllib.request.urlopen(request, context=context, timeout=20).read()
PYTHON
}
retry ask

systemctl enable --quiet containerd.service
systemctl start containerd.service
say "containerd is active"
ctr --namespace k8s.io images import /etc/nodekiln/sandbox-image.tar >/dev/null
ctr --namespace k8s.io images label "$(cat /etc/nodekiln/sandbox-image)" \
  io.cri-containerd.pinned=pinned >/dev/null
systemctl enable --quiet kubelet.service
systemctl start kubelet.service
say "kubelet is active"
say "done in $SECONDS s"
