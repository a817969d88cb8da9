'use strict';
'require view';
'require fs';
'require poll';

/* What the node says of itself. The browser has no way to its control socket: rpcd runs `warren ctl`, in the four forms
 * that the ACL names. All that others chose, as nicknames, becomes text nodes, never markup. */

const PROGRAM = '/usr/bin/warren';
const CONTROL = '/var/run/warren/control';
const QUESTIONS = [ 'status', 'peers', 'rooms', 'nat' ];

/* Seconds between two looks. */
const PAUSE = 5;

/* Resolves to the node's answer, or to an object with `trouble`, a sentence. */
function ask(question) {
	return fs.exec(PROGRAM, [ 'ctl', '--json', '--control', CONTROL, question ]).then(function(done) {
		const line = (done.stdout || '').trim().split('\n').pop();
		if (done.code !== 0 || !line)
			return { trouble: (done.stderr || '').trim() || _('The node does not answer.') };
		return JSON.parse(line);
	}).catch(function(error) {
		return { trouble: String(error.message || error) };
	});
}

function lookAround() {
	return Promise.all(QUESTIONS.map(ask)).then(function(answers) {
		return Object.fromEntries(QUESTIONS.map((question, i) => [ question, answers[i] ]));
	});
}

function table(titles, rows, empty) {
	const head = E('tr', { 'class': 'tr table-titles' }, titles.map((title) => E('th', { 'class': 'th' }, [ title ])));
	const body = rows.map((cells) => E('tr', { 'class': 'tr' }, cells.map((cell) => E('td', { 'class': 'td' }, [ cell ]))));
	if (!body.length)
		body.push(E('tr', { 'class': 'tr placeholder' }, [ E('td', { 'class': 'td' }, [ E('em', {}, [ empty ]) ]) ]));
	return E('table', { 'class': 'table' }, [ head ].concat(body));
}

function facts(rows) {
	return E('table', { 'class': 'table' }, rows.map(([ name, value ]) => E('tr', { 'class': 'tr' }, [
		E('td', { 'class': 'td left', 'width': '33%' }, [ name ]),
		E('td', { 'class': 'td left' }, [ value ])
	])));
}

function lines(texts) {
	return E('div', {}, texts.length ? texts.map((text) => E('div', {}, [ String(text) ])) : [ '-' ]);
}

function since(ms) {
	const minutes = Math.floor(ms / 60000), hours = Math.floor(minutes / 60), days = Math.floor(hours / 24);
	return days ? _('%d d %d h').format(days, hours % 24) : _('%d h %d min').format(hours, minutes % 60);
}

/* Where others can dial this node, in words. */
const VERDICTS = {
	reachable: _('others can dial this node'),
	partly: _('others can dial this node by IPv6 only'),
	unreachable: _('nobody can dial this node; it is reached through relays'),
	unknown: _('not known yet')
};

function showNode(status) {
	return facts([
		[ _('Peer ID'), status.peerId ],
		[ _('Name'), status.nick ],
		[ _('Up for'), since(status.uptimeMs) ],
		[ _('Listens at'), lines(status.listening) ],
		[ _('Seen by others at'), lines(status.external) ],
		[ _('Messages'), _('%d sent, %d shown, %d refused').format(status.sent, status.delivered,
			status.forged + status.malformed + status.oversized) ]
	]);
}

function showNat(nat) {
	const families = nat.nats.map((one) => [ one.family, lines([
		_('mapping %s, filtering %s, ports %s').format(one.mapping, one.filtering, one.ports), one.reach
	]) ]);
	return facts([ [ _('Verdict'), VERDICTS[nat.verdict] || nat.verdict ] ]
		.concat(families, [ [ _('Relays that hold a place'), lines(nat.relays) ] ]));
}

function showPeers(answer) {
	return table([ _('Name'), _('Peer ID'), _('Path'), _('Round trip'), _('Addresses') ], answer.peers.map((peer) => [
		peer.nick || '-',
		peer.peerId,
		peer.path === 'relayed' ? _('through a relay') : _('direct'),
		peer.rttMs == null ? '-' : '%d ms'.format(Math.round(peer.rttMs)),
		lines(peer.addrs)
	]), _('Nobody is connected.'));
}

function showRooms(answer) {
	return table([ _('Room'), _('Members') ], answer.rooms.map((room) => [
		room.room,
		lines(room.members.map((member) => member.nick || member.peerId))
	]), _('The node is in no room.'));
}

const PARTS = [
	[ 'status', _('Node'), showNode ],
	[ 'nat', _('Network'), showNat ],
	[ 'rooms', _('Rooms'), showRooms ],
	[ 'peers', _('Peers'), showPeers ]
];

/* All parts fail alike when the node is not there: then one sentence is enough. */
function show(answers) {
	if (answers.status.trouble)
		return [ E('div', { 'class': 'alert-message warning' }, [ answers.status.trouble ]) ];
	return PARTS.map(([ question, title, part ]) => {
		const answer = answers[question];
		return E('div', { 'class': 'cbi-section' }, [
			E('h3', {}, [ title ]),
			answer.trouble ? E('em', {}, [ answer.trouble ]) : part(answer)
		]);
	});
}

return view.extend({
	load: lookAround,

	render: function(answers) {
		const parts = E('div', {}, show(answers));
		poll.add(() => lookAround().then((fresh) => parts.replaceChildren(...show(fresh))), PAUSE);
		return E('div', {}, [ E('h2', {}, [ 'warren' ]), parts ]);
	},

	handleSave: null,
	handleSaveApply: null,
	handleReset: null
});
