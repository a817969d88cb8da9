'use strict';
/* The LuCI page in node, without LuCI: luci.js WARREN CONTROL
 *
 * Stands for LuCI: `view.extend` gives back what it is given, `E` makes objects of tag, attributes and children, `fs.exec`
 * runs warren after it has looked into the ACL as rpcd does, `form` records options. CONTROL is the socket of a node. */

const assert = require('node:assert');
const { execFile } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');

const [ warren, control ] = process.argv.slice(2);
const app = path.join(__dirname, '..', 'luci-app-warren');
const read = (name) => fs.readFileSync(path.join(app, name), 'utf8');
const menu = JSON.parse(read('root/usr/share/luci/menu.d/luci-app-warren.json'));
const acl = JSON.parse(read('root/usr/share/rpcd/acl.d/luci-app-warren.json'))['luci-app-warren'];

/* C's formats, as LuCI has them on strings. */
Object.defineProperty(String.prototype, 'format', {
	value: function(...words) { return this.replace(/%[sd]/g, () => String(words.shift())); }
});

function E(tag, attributes, children) {
	for (const child of children)
		assert.ok(typeof child === 'string' || child.tag, `${tag} holds ${JSON.stringify(child)}`);
	return { tag, attributes, children, replaceChildren(...fresh) { this.children = fresh; } };
}

const words = (node) => typeof node === 'string' ? node : node.children.map(words).join(' ');

function load(view, more) {
	const names = { view: { extend: (page) => page }, _: (text) => text, E, ...more };
	return new Function(...Object.keys(names), read(`htdocs/luci-static/resources/view/${view}.js`))(...Object.values(names));
}

let allowed = 0;
function exec(program, args) {
	const line = [ program ].concat(args).join(' ');
	assert.deepStrictEqual(acl.read.file[line], [ 'exec' ], `the ACL does not allow: ${line}`);
	allowed++;
	return new Promise((resolve) => execFile(warren, args.map((word) => word === '/var/run/warren/control' ? control : word),
		(error, stdout, stderr) => resolve({ code: error ? error.code : 0, stdout, stderr })));
}

async function status() {
	const polls = [];
	const page = load('warren/status', { fs: { exec }, poll: { add: (look) => polls.push(look) } });
	const shown = page.render(await page.load());
	const text = words(shown);
	assert.match(text, /16Uiu2HA\w+/);
	assert.match(text, /den .*friend<b>/, 'the room and who is there, as text');
	assert.match(text, /direct .*\/ip4\/127\.0\.0\.1/);
	assert.strictEqual(allowed, Object.keys(acl.read.file).length, 'the ACL allows what is needed and no more');
	await polls[0]();
	assert.match(words(shown), /16Uiu2HA\w+/, 'the second look');

	const nat = { verdict: 'unreachable', relays: [ 'RELAY' ], nats: [ { family: 'IPv4', mapping: 'endpoint-independent',
		filtering: 'address-dependent', ports: 'single', reach: 'direct to everybody' } ] };
	const behind = { ...await page.load(), nat, peers: { peers: [ { peerId: 'P', path: 'relayed', addrs: [] } ] } };
	assert.match(words(page.render(behind)), /nobody can dial this node.*endpoint-independent.*direct to everybody.*RELAY/);
	assert.match(words(page.render(behind)), /P through a relay/);

	const gone = load('warren/status', { poll: { add() {} },
		fs: { exec: async () => ({ code: 3, stdout: '', stderr: 'warren: no node answers' }) } });
	assert.match(words(gone.render(await gone.load())), /no node answers/);
	const denied = load('warren/status', { poll: { add() {} }, fs: { exec: () => Promise.reject(new Error('Permission denied')) } });
	assert.match(words(denied.render(await denied.load())), /Permission denied/);
}

async function settings() {
	const options = {};
	const form = { Map: class {
		constructor(package_) { assert.strictEqual(package_, 'warren'); }
		section(type, name) {
			assert.deepStrictEqual([ type, name ], [ 'NamedSection', 'main' ]);
			const tabs = [];
			return { tab: (tab) => tabs.push(tab), taboption(tab, type, name) {
				assert.ok(type && tabs.includes(tab) && !options[name], name);
				options[name] = { value() {}, depends() {} };
				return options[name];
			} };
		}
		render() { return 'rendered'; }
	}, NamedSection: 'NamedSection', Flag: 'Flag', Value: 'Value', ListValue: 'ListValue', DynamicList: 'DynamicList' };
	assert.strictEqual(await load('warren/settings', { form }).render(), 'rendered');
	const address = '/ip4/192.0.2.7/udp/4001/quic-v1/p2p/16Uiu2HAm';
	assert.strictEqual(options.bootstrap.validate('main', address), true);
	assert.notStrictEqual(options.bootstrap.validate('main', '192.0.2.7:4001'), true);
	assert.strictEqual(options.listen.validate('main', '/ip4/0.0.0.0/udp/4001/quic-v1'), true);
	assert.notStrictEqual(options.listen.validate('main', '0.0.0.0:4001'), true);
	assert.strictEqual(options.metrics.validate('main', '[::1]:9464'), true);
	assert.notStrictEqual(options.metrics.validate('main', 'localhost'), true);
	assert.notStrictEqual(options.room.validate('main', 'ä'.repeat(33)), true);
}

function paths() {
	for (const entry of Object.values(menu))
		if (entry.action.type === 'view')
			assert.ok(fs.existsSync(path.join(app, `htdocs/luci-static/resources/view/${entry.action.path}.js`)), entry.action.path);
		else
			assert.ok(menu[entry.action.path], entry.action.path);
	assert.deepStrictEqual([ acl.read.uci, acl.write.uci ], [ [ 'warren' ], [ 'warren' ] ]);
}

paths();
settings().then(status).then(() => console.log('the LuCI page: menu, ACL, status and settings hold'));
