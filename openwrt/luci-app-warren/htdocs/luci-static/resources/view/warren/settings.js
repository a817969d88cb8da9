'use strict';
'require view';
'require form';

/* /etc/config/warren as a form. What warren thinks of a value it says in the log; here is only what a browser can know. */

/* A multiaddr that says who is there. */
function isPeerAddress(section, value) {
	return !value || /^\/(ip4|ip6|dns|dns4|dns6|dnsaddr)\/\S+\/p2p\/\w+$/.test(value) ||
		_('Write it like /ip4/192.0.2.7/udp/4001/quic-v1/p2p/PEER');
}

function isAddress(section, value) {
	return !value || /^\/(ip4|ip6|dns|dns4|dns6)\/\S+\/(tcp|udp)\/\d+(\/quic-v1)?$/.test(value) ||
		_('Write it like /ip4/0.0.0.0/tcp/4001');
}

function isSocket(section, value) {
	return !value || /^([\d.]+|\[[\da-fA-F:]+\]):\d+$/.test(value) || _('Write it like 127.0.0.1:9464');
}

function isRoom(section, value) {
	return !value || new TextEncoder().encode(value).length <= 64 || _('At most 64 bytes');
}

/* One line each: type, name, title, description, and what else it has. */
const GENERAL = [
	[ form.Flag, 'enabled', _('Enabled'), '', { rmempty: false } ],
	[ form.ListValue, 'mode', _('Mode'), _('A relay is a fixed point for others, at a port that they can reach.'),
		{ values: { run: _('Take part in rooms'), relay: _('Be a relay') } } ],
	[ form.Value, 'nick', _('Name'), _('What others see; otherwise the end of the peer ID.'), { datatype: 'maxlength(32)' } ],
	[ form.DynamicList, 'room', _('Rooms'), _('Whoever knows the name of a room can join it and read along.'),
		{ validate: isRoom } ]
];

const PEERS = [
	[ form.DynamicList, 'bootstrap', _('Known peers'), _('Addresses to connect and reconnect to.'), { validate: isPeerAddress } ],
	[ form.DynamicList, 'relay', _('Relays'), _('To be reached through. Otherwise those found.'),
		{ validate: isPeerAddress, depends: { mode: 'run' } } ],
	[ form.Flag, 'discovery', _('Find members'), _('In rooms, in the DHT and in the address book.'), { 'default': '1' } ],
	[ form.ListValue, 'dht', _('DHT'), '', { values: { '': _('private'), 'public': _('that of IPFS'), off: _('off') } } ],
	[ form.Flag, 'mdns', _('Local network'), _('Find peers in the LAN, and be found.'), { 'default': '1' } ],
	[ form.DynamicList, 'lan', _('Networks that are ours'), _('Beyond those of the interfaces.'), { datatype: 'cidr' } ]
];

const NETWORK = [
	[ form.ListValue, 'transport', _('Transport'), '',
		{ values: { all: _('QUIC and TCP'), tcp: 'TCP', quic: 'QUIC' }, depends: { mode: 'run' } } ],
	[ form.Value, 'udp_port', _('UDP port'), _('Otherwise a free one.'), { datatype: 'port', depends: { mode: 'run' } } ],
	[ form.Value, 'port', _('Port'), _('Otherwise 4001, TCP and UDP.'), { datatype: 'port', depends: { mode: 'relay' } } ],
	[ form.Flag, 'open_port', _('Let others in'), _('Opens this port in the firewall, from the WAN.'), {} ],
	[ form.Flag, 'portmap', _('Ask the router beyond'), _('For ports, by PCP, NAT-PMP or UPnP.'), { 'default': '1' } ],
	[ form.Flag, 'ipv6', _('IPv6'), '', { 'default': '1' } ],
	[ form.DynamicList, 'listen', _('Listen at'), _('Otherwise all interfaces.'), { validate: isAddress } ],
	[ form.DynamicList, 'external', _('Reached at'), _('Where others reach this node, though it is not its own address.'),
		{ validate: isAddress } ],
	[ form.DynamicList, 'stun_server', _('STUN servers'), _('Beside relays and known peers.'),
		{ datatype: 'or(host, hostport)', depends: { mode: 'run' } } ],
	[ form.DynamicList, 'interface', _('Interfaces'), _('When one of these comes up, the node looks again.'), {} ]
];

const SERVICE = [
	[ form.Value, 'metrics', _('Metrics'), _('IP address and port at which Prometheus finds them.'), { validate: isSocket } ],
	[ form.Value, 'web', _('Web page'), _('IP address and port, if this warren has one.'), { validate: isSocket } ],
	[ form.ListValue, 'verbose', _('Log'), '', { values: { 0: _('warnings'), 1: _('what changes'), 2: _('all'), 3: _('trace') } } ],
	[ form.Value, 'memory', _('Memory'), _('MiB that it may have.'), { datatype: 'range(16,4096)', placeholder: '64' } ],
	[ form.Flag, 'plain', _('Plain text'), _('To talk with other libp2p programs, without envelopes.'), { depends: { mode: 'run' } } ]
];

const LIMITS = [
	[ form.Value, 'max_reservations', _('Places'), '', { datatype: 'min(1)', placeholder: '256', depends: { mode: 'relay' } } ],
	[ form.Value, 'max_circuits', _('Circuits'), '', { datatype: 'min(1)', placeholder: '64', depends: { mode: 'relay' } } ],
	[ form.Value, 'max_circuits_per_peer', _('Circuits of a peer'), '',
		{ datatype: 'min(1)', placeholder: '16', depends: { mode: 'relay' } } ],
	[ form.Value, 'circuit_minutes', _('Minutes of a circuit'), '',
		{ datatype: 'min(1)', placeholder: '360', depends: { mode: 'relay' } } ],
	[ form.Value, 'circuit_mib', _('MiB of a circuit'), '', { datatype: 'min(1)', placeholder: '64', depends: { mode: 'relay' } } ]
];

const TABS = [
	[ 'general', _('General'), GENERAL ],
	[ 'peers', _('Peers'), PEERS ],
	[ 'network', _('Network'), NETWORK ],
	[ 'service', _('Service'), SERVICE ],
	[ 'limits', _('Limits of a relay'), LIMITS ]
];

function add(section, tab, [ type, name, title, description, more ]) {
	const option = section.taboption(tab, type, name, title, description);
	for (const key in more) {
		if (key === 'values')
			Object.entries(more.values).forEach(([ value, word ]) => option.value(value, word));
		else if (key === 'depends')
			option.depends(more.depends);
		else
			option[key] = more[key];
	}
}

return view.extend({
	render: function() {
		const map = new form.Map('warren', 'warren', _('Rooms between routers, without a server.'));
		const section = map.section(form.NamedSection, 'main', 'warren');
		for (const [ tab, title, options ] of TABS) {
			section.tab(tab, title);
			options.forEach((option) => add(section, tab, option));
		}
		return map.render();
	}
});
