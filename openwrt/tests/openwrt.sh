# shellcheck shell=dash disable=SC2034,SC3043,SC1090
# What the init script finds on OpenWrt, as far as it uses it, for busybox ash: openwrt.sh SCRIPT FUNCTION [WORD...]
#
# config_*      do what /lib/functions.sh does: config_load runs what `uci export` prints, a shell script of `config`,
#               `option` and `list` (functions of this library, so the script must not have its own) with each value in single quotes; here it is the file $UCI. config_get and
#               config_get_bool assign, config_list_foreach calls FUNCTION VALUE WORD... for each value of a list.
# procd_*, json_*, logger, chown, start, stop, restart
#               do nothing but write themselves and their words to $RECORD, a line each, words between tabs (a tab or line
#               break within a word is written as ?).
# running       succeeds when $RUNNING is 1.
#
# $ROOT stands in front of the paths that the script has; $PROG is warren, $JAIL is ujail or nothing.

record() {
	local word
	for word; do
		printf '%s\t' "$(printf '%s' "$word" | tr '\t\n' '??')"
	done >>"$RECORD"
	printf '\n' >>"$RECORD"
}

config_load() {
	local name
	for name in $LISTS; do
		eval "CONFIG_$name=0"
	done
	LISTS=
	SECTION=
	. "$UCI"
}

config() { SECTION=$2; }

option() { eval "CONFIG_${SECTION}_$1=\$2"; }

list() {
	local length
	LISTS="$LISTS ${SECTION}_$1_LENGTH"
	eval "length=\${CONFIG_${SECTION}_$1_LENGTH:-0}"
	length=$((length + 1))
	eval "CONFIG_${SECTION}_$1_LENGTH=\$length; CONFIG_${SECTION}_$1_ITEM$length=\$2"
}

config_get() {
	local stub_found
	eval "stub_found=\${CONFIG_$2_$3-}"
	[ -n "$stub_found" ] || stub_found=${4-}
	eval "$1=\$stub_found"
}

config_get_bool() {
	local stub_word
	config_get stub_word "$2" "$3" "$4"
	case $stub_word in
	1 | on | true | yes | enabled) stub_word=1 ;;
	0 | off | false | no | disabled) stub_word=0 ;;
	*) stub_word=$4 ;;
	esac
	eval "$1=\$stub_word"
}

config_list_foreach() {
	local section="$1" name="$2" function="$3" length at=0 item
	shift 3
	eval "length=\${CONFIG_${section}_${name}_LENGTH:-0}"
	while [ "$at" -lt "$length" ]; do
		at=$((at + 1))
		eval "item=\$CONFIG_${section}_${name}_ITEM$at"
		"$function" "$item" "$@"
	done
}

for function in procd_open_instance procd_close_instance procd_set_param procd_append_param procd_add_jail \
	procd_add_jail_mount procd_add_jail_mount_rw procd_add_reload_trigger procd_add_interface_trigger procd_open_data \
	procd_close_data procd_set_config_changed procd_send_signal json_add_array json_close_array json_add_object \
	json_close_object json_add_string logger chown start stop restart; do
	eval "$function() { record $function \"\$@\"; }"
done

running() { [ "$RUNNING" = 1 ]; }

prog=$PROG
jail=$JAIL
script=$1
shift
. "$script"
PROG=$prog
JAIL=$jail
STATE=$ROOT$STATE
RUN=$ROOT$RUN
CONF=$RUN/warren.conf
"$@"
