//! What the answers of PCP and NAT-PMP mean.

use std::{net::IpAddr, time::Instant};

use super::{Core, Mapping, Method, Support, natpmp, pcp};
use crate::limits;

impl Core {
    pub(super) fn on_pcp(&mut self, reply: &pcp::Mapped, now: Instant) {
        let is_it = |mapping: &Mapping| {
            mapping.nonce == reply.nonce
                && mapping.wish.protocol.number() == reply.protocol
                && mapping.wish.internal == reply.internal
        };
        let Some(index) = self.mappings.iter().position(is_it) else { return };
        if self.mappings[index].leaving {
            // Otherwise it answers what we asked before.
            return if reply.lifetime == 0 || reply.code != 0 {
                self.remove(index)
            };
        }
        self.on_epoch(reply.epoch, Some(index), now);
        match reply.code {
            0 if reply.lifetime > 0 => self.grant(index, reply.external, reply.lifetime, None, now),
            pcp::NETWORK_FAILURE
            | pcp::NO_RESOURCES
            | pcp::UNSUPP_PROTOCOL
            | pcp::USER_EX_QUOTA
            | pcp::CANNOT_PROVIDE_EXTERNAL => {
                self.refuse(index, pcp::name(reply.code), u64::from(reply.lifetime), now);
            }
            code if self.proven => self.refuse(index, pcp::name(code), u64::from(reply.lifetime), now),
            code => self.next_method(Support::Refused(pcp::name(code).into()), now),
        }
    }

    pub(super) fn on_natpmp(&mut self, reply: &natpmp::Reply, now: Instant) {
        match *reply {
            natpmp::Reply::Address { epoch, ip } => {
                if self.address.tries == 0 {
                    return;
                }
                (self.address.due, self.address.tries) = (None, 0);
                self.on_epoch(epoch, None, now);
                self.set_address(ip.into(), now);
            }
            natpmp::Reply::Mapped { epoch, protocol, internal, external, lifetime } => {
                let (Some(index), Some(ip)) = (self.find(protocol, internal), self.address.known) else {
                    return;
                };
                if self.mappings[index].leaving {
                    // Otherwise it answers what we asked before.
                    return if lifetime == 0 {
                        self.remove(index)
                    };
                }
                // A late second answer, to a request that was sent twice, says nothing new.
                if self.mappings[index].tries == 0 || lifetime == 0 {
                    return;
                }
                self.on_epoch(epoch, Some(index), now);
                self.grant(index, (ip, external).into(), lifetime, None, now);
            }
            natpmp::Reply::Failed { opcode, code } => {
                let passing = [natpmp::NETWORK_FAILURE, natpmp::OUT_OF_RESOURCES].contains(&code);
                let why = natpmp::name(code);
                if !self.proven && !passing {
                    return self.next_method(Support::Refused(why.into()), now);
                }
                if opcode == 0 && self.address.tries > 0 {
                    self.proven = true;
                    *self.report.support(Method::NatPmp) = Support::Refused(why.into());
                    self.address.tries = 0;
                    self.address.due = Some(now + limits::PORTMAP_ERROR[0]);
                }
                let asked = |m: &Mapping| natpmp::opcode(m.wish.protocol) == opcode && m.tries > 0;
                match self.mappings.iter().position(asked) {
                    Some(index) if self.mappings[index].leaving => self.remove(index),
                    Some(index) => self.refuse(index, why, 0, now),
                    None => {}
                }
            }
        }
    }

    /// NAT-PMP's external address is known, perhaps another than before.
    fn set_address(&mut self, ip: IpAddr, now: Instant) {
        if self.address.known.replace(ip).is_some_and(|old| old != ip) {
            for index in 0..self.mappings.len() {
                if let Some(grant) = &self.mappings[index].grant {
                    let (port, left) = (grant.external.port(), grant.until.saturating_duration_since(now));
                    self.set_grant(index, (ip, port).into(), left, now);
                }
            }
        }
    }
}
