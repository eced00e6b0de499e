//! EC2: what it says of an instance and of a type.

use super::message::{Answer, Asked, escaped};
use super::refusal::Refusal;
use super::state::Inner;
use super::{Service, State, signature_v4};

/// The version of the protocol.
pub const VERSION: &str = "2016-11-15";
const NAMESPACE: &str = "http://ec2.amazonaws.com/doc/2016-11-15/";

/// Answers a request.
pub fn answer(state: &State, asked: &Asked) -> Result<Answer, Refusal> {
    let key = signature_v4::verify(state, asked, Service::Ec2)?;
    if asked.path != "/" || !matches!(asked.method.as_str(), "GET" | "POST") {
        return Err(Refusal::UnknownAction(asked.path.clone()));
    }
    let action = asked
        .field("Action")
        .ok_or_else(|| Refusal::own(400, "MissingAction", "The request must contain an action."))?;
    if asked.field("Version").as_deref() != Some(VERSION) {
        let text = format!("The action {action} is not valid for this version.");
        return Err(Refusal::own(400, "InvalidAction", text));
    }
    let body = match action.as_str() {
        "DescribeInstances" => {
            state.permit(&key, "ec2:DescribeInstances", "*")?;
            instances(&mut state.lock(), asked)?
        }
        "DescribeInstanceTypes" => {
            state.permit(&key, "ec2:DescribeInstanceTypes", "*")?;
            types(&state.lock(), asked)?
        }
        _ => return Err(Refusal::UnknownAction(action)),
    };
    Ok(Answer::xml(
        200,
        &format!(
            "<{action}Response xmlns=\"{NAMESPACE}\"><requestId>00000000-0000-0000-0000-000000000000\
             </requestId>{body}</{action}Response>"
        ),
    ))
}

/// What is listed as `NAME.1`, `NAME.2`, …
fn listed(asked: &Asked, name: &str) -> Vec<String> {
    (1..)
        .map_while(|index| asked.field(&format!("{name}.{index}")))
        .collect()
}

fn instances(inner: &mut Inner, asked: &Asked) -> Result<String, Refusal> {
    let wanted = listed(asked, "InstanceId");
    let region = inner.world.region.clone();
    let Some(instance) = inner.world.instance.as_mut() else {
        return unknown(&wanted);
    };
    if wanted.iter().any(|id| *id != instance.id) {
        return unknown(&wanted);
    }
    // An instance that has just started has no name yet.
    let name = if instance.name_comes_after > 0 {
        instance.name_comes_after -= 1;
        ""
    } else {
        &instance.private_dns_name
    };
    Ok(format!(
        "<reservationSet><item><reservationId>r-0123456789abcdef0</reservationId><instancesSet>\
         <item><instanceId>{}</instanceId><instanceState><code>16</code><name>running</name>\
         </instanceState><privateDnsName>{}</privateDnsName><instanceType>{}</instanceType>\
         <placement><availabilityZone>{}</availabilityZone><region>{region}</region></placement>\
         <privateIpAddress>{}</privateIpAddress></item></instancesSet></item></reservationSet>",
        escaped(&instance.id),
        escaped(name),
        escaped(&instance.instance_type),
        escaped(&instance.availability_zone),
        escaped(&instance.local_ipv4),
    ))
}

fn unknown(wanted: &[String]) -> Result<String, Refusal> {
    if wanted.is_empty() {
        return Ok("<reservationSet/>".into());
    }
    let text = format!("The instance IDs '{}' do not exist", wanted.join(", "));
    Err(Refusal::own(400, "InvalidInstanceID.NotFound", text))
}

fn types(inner: &Inner, asked: &Asked) -> Result<String, Refusal> {
    let wanted = listed(asked, "InstanceType");
    let mut items = String::new();
    for name in &wanted {
        let known = inner
            .world
            .instance_types
            .iter()
            .find(|one| one.name == *name);
        let one = known.ok_or_else(|| {
            let text = format!("The following supplied instance types do not exist: [{name}]");
            Refusal::own(400, "InvalidInstanceType", text)
        })?;
        items += &format!(
            "<item><instanceType>{}</instanceType><hypervisor>nitro</hypervisor>\
             <vCpuInfo><defaultVCpus>{}</defaultVCpus></vCpuInfo>\
             <memoryInfo><sizeInMiB>{}</sizeInMiB></memoryInfo>\
             <networkInfo><maximumNetworkCards>1</maximumNetworkCards>\
             <defaultNetworkCardIndex>0</defaultNetworkCardIndex>\
             <networkCards><item><networkCardIndex>0</networkCardIndex>\
             <maximumNetworkInterfaces>{interfaces}</maximumNetworkInterfaces></item></networkCards>\
             <maximumNetworkInterfaces>{interfaces}</maximumNetworkInterfaces>\
             <ipv4AddressesPerInterface>{addresses}</ipv4AddressesPerInterface>\
             <ipv6AddressesPerInterface>{addresses}</ipv6AddressesPerInterface>\
             <ipv6Supported>true</ipv6Supported></networkInfo></item>",
            escaped(&one.name),
            one.cpus,
            one.memory_mib,
            interfaces = one.interfaces,
            addresses = one.ipv4_per_interface,
        );
    }
    Ok(format!("<instanceTypeSet>{items}</instanceTypeSet>"))
}
