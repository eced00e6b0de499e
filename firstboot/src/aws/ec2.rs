//! Instances of EC2 and their types.

use super::client::{Call, Client};
use super::endpoints::Service;
use super::error::AwsError;
use super::xml;

const INSTANCES: &str = "ec2:DescribeInstances";
const TYPES: &str = "ec2:DescribeInstanceTypes";
const VERSION: (&str, &str) = ("Version", "2016-11-15");

/// How many interfaces and addresses an instance type has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterfaceLimits {
    /// Interfaces on the default network card.
    pub interfaces: u32,
    /// IPv4 addresses on each of them.
    pub ipv4_addresses: u32,
}

impl Client<'_> {
    /// The private DNS name of an instance (`ec2:DescribeInstances`); `None` while it
    /// has none, or is not known yet, as in its first seconds.
    pub fn private_dns_name(&self, instance_id: &str) -> Result<Option<String>, AwsError> {
        let asked = self.call(&Call::form(
            Service::Ec2,
            INSTANCES,
            &[
                ("Action", "DescribeInstances"),
                VERSION,
                ("InstanceId.1", instance_id),
            ],
            &format!("instance {instance_id}"),
        ));
        let body = match asked {
            Err(AwsError::Refused { code, .. }) if code == "InvalidInstanceID.NotFound" => {
                return Ok(None);
            }
            asked => asked?,
        };
        let document = xml::parse(&body)
            .ok_or_else(|| AwsError::answer(INSTANCES, "is no XML that can be read"))?;
        let instance = xml::find(document.root(), "instancesSet")
            .and_then(|set| xml::find(set, "item"))
            .ok_or_else(|| AwsError::answer(INSTANCES, "has no instance"))?;
        if xml::child(instance, "instanceId") != Some(instance_id) {
            return Err(AwsError::answer(INSTANCES, "is about another instance"));
        }
        let name = xml::child(instance, "privateDnsName").map(ToOwned::to_owned);
        Ok(name)
    }

    /// The limits of an instance type (`ec2:DescribeInstanceTypes`).
    pub fn interface_limits(&self, instance_type: &str) -> Result<InterfaceLimits, AwsError> {
        let body = self.call(&Call::form(
            Service::Ec2,
            TYPES,
            &[
                ("Action", "DescribeInstanceTypes"),
                VERSION,
                ("InstanceType.1", instance_type),
            ],
            &format!("instance type {instance_type}"),
        ))?;
        read_limits(&body)
    }
}

fn read_limits(body: &[u8]) -> Result<InterfaceLimits, AwsError> {
    let lacks = |what| AwsError::answer(TYPES, format!("has no {what}"));
    let document =
        xml::parse(body).ok_or_else(|| AwsError::answer(TYPES, "is no XML that can be read"))?;
    let network =
        xml::find(document.root(), "networkInfo").ok_or_else(|| lacks("network information"))?;
    let number = |node, name| xml::child(node, name).and_then(|text| text.parse::<u32>().ok());
    let default = number(network, "defaultNetworkCardIndex").unwrap_or(0);
    // Only the default card counts; types with one card may not list it.
    let card = xml::find(network, "networkCards").and_then(|cards| {
        cards
            .children()
            .filter(|it| it.is_element())
            .find(|card| number(*card, "networkCardIndex") == Some(default))
    });
    let interfaces = card
        .and_then(|card| number(card, "maximumNetworkInterfaces"))
        .or_else(|| number(network, "maximumNetworkInterfaces"))
        .ok_or_else(|| lacks("number of interfaces"))?;
    let ipv4_addresses =
        number(network, "ipv4AddressesPerInterface").ok_or_else(|| lacks("number of addresses"))?;
    Ok(InterfaceLimits {
        interfaces,
        ipv4_addresses,
    })
}
