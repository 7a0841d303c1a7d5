/* Stdin and stdout of a program in one container, for a shim in another one.
 *
 *   mcpmesh-stdio serve SOCKET PROGRAM ARGS…    in the image's container, as its first process
 *   mcpmesh-stdio connect SOCKET NAMES…         what the shim starts in place of the program
 *
 * Each connection gets a PROGRAM of its own, with the connection as its stdin
 * and stdout and with the variables NAMES from the connecting side's environment,
 * which so stand in no container's description. Whoever leaves takes the other
 * along: a program's end closes the connection, a connection's end gives the
 * program's process group five seconds after SIGTERM. Statically linked, since
 * an image may hold nothing but its program.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 256, GRACE_SECONDS = 5, CONNECT_TRIES = 1200, PAUSE_MS = 50, ENVIRONMENT_BYTES = 1 << 20 };

struct served {
	pid_t pid;
	int connection;
	time_t told; /* when SIGTERM went out; 0 before */
};

static struct served table[MOST];
static volatile sig_atomic_t leaving;

static void leave(int number) {
	(void)number;
	leaving = 1;
}

static void nothing(int number) { (void)number; }

static void die(const char *what) {
	fprintf(stderr, "mcpmesh-stdio: %s: %s\n", what, strerror(errno));
	exit(1);
}

static struct sockaddr_un address_of(const char *path) {
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof address.sun_path) {
		errno = ENAMETOOLONG;
		die(path);
	}
	strcpy(address.sun_path, path);
	return address;
}

static void write_all(int to, const char *data, size_t size) {
	while (size > 0) {
		ssize_t done = write(to, data, size);
		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			exit(0); /* the other side has gone */
		data += done;
		size -= (size_t)done;
	}
}

static void copy(int from, int to) {
	static char buffer[1 << 16];
	for (;;) {
		ssize_t got = read(from, buffer, sizeof buffer);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return;
		write_all(to, buffer, (size_t)got);
	}
}

/* The connecting side: variables as NAME=VALUE, each ended by a NUL and all by another, then the stream. */
static int connect_to(const char *path, char **names) {
	struct sockaddr_un address = address_of(path);
	int link = -1;
	for (int tries = 0; tries < CONNECT_TRIES; tries++) {
		link = socket(AF_UNIX, SOCK_STREAM, 0);
		if (link < 0)
			die("socket");
		if (connect(link, (struct sockaddr *)&address, sizeof address) == 0)
			break;
		close(link);
		link = -1;
		usleep(PAUSE_MS * 1000); /* its container is only just starting */
	}
	if (link < 0)
		die(path);
	for (; *names; names++) {
		const char *value = getenv(*names);
		if (!value)
			continue;
		write_all(link, *names, strlen(*names));
		write_all(link, "=", 1);
		write_all(link, value, strlen(value) + 1);
	}
	write_all(link, "", 1);
	pid_t parent = getpid(), upward = fork();
	if (upward < 0)
		die("fork");
	if (upward == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(0);
		copy(0, link);
		shutdown(link, SHUT_WR);
		_exit(0);
	}
	close(0);
	copy(link, 1);
	kill(upward, SIGKILL);
	return 0;
}

static void environment_from(int connection) {
	char *text = malloc(ENVIRONMENT_BYTES);
	size_t size = 0, begin = 0;
	for (;;) {
		if (!text || size == ENVIRONMENT_BYTES || read(connection, text + size, 1) != 1)
			_exit(1);
		if (text[size++] != '\0')
			continue;
		if (size - begin == 1)
			return;
		putenv(text + begin);
		begin = size;
	}
}

static void begin(int connection, char **program) {
	int slot = 0;
	while (slot < MOST && table[slot].pid)
		slot++;
	pid_t pid = slot < MOST ? fork() : -1;
	if (pid < 0) {
		close(connection);
		return;
	}
	if (pid == 0) {
		setsid();
		signal(SIGTERM, SIG_DFL);
		signal(SIGPIPE, SIG_DFL);
		environment_from(connection);
		dup2(connection, 0);
		dup2(connection, 1);
		execvp(program[0], program);
		fprintf(stderr, "mcpmesh-stdio: cannot start %s: %s\n", program[0], strerror(errno));
		_exit(127);
	}
	table[slot] = (struct served){pid, connection, 0};
}

static void tell(struct served *one) {
	if (!one->told) {
		one->told = time(NULL);
		kill(-one->pid, SIGTERM);
	} else if (time(NULL) - one->told >= GRACE_SECONDS) {
		kill(-one->pid, SIGKILL);
	}
}

static void reap(void) {
	int status;
	pid_t pid;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (int slot = 0; slot < MOST; slot++)
			if (table[slot].pid == pid) {
				kill(-pid, SIGKILL); /* what it left behind would hold the connection open */
				close(table[slot].connection);
				table[slot].pid = 0;
			}
}

static int serve(const char *path, char **program) {
	struct sockaddr_un address = address_of(path);
	int door = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	unlink(path);
	if (door < 0 || bind(door, (struct sockaddr *)&address, sizeof address) != 0 || listen(door, MOST) != 0)
		die(path);
	chmod(path, 0666); /* the shim is another user; nobody else is given the folder */
	signal(SIGTERM, leave);
	signal(SIGINT, leave);
	signal(SIGPIPE, SIG_IGN);
	struct sigaction ended = {.sa_handler = nothing};
	sigaction(SIGCHLD, &ended, NULL); /* wakes poll */
	for (;;) {
		struct pollfd watched[MOST + 1] = {{door, leaving ? 0 : POLLIN, 0}};
		int slots[MOST + 1], count = 1, busy = 0;
		for (int slot = 0; slot < MOST; slot++) {
			if (!table[slot].pid)
				continue;
			busy |= table[slot].told || leaving;
			if (leaving)
				tell(&table[slot]);
			if (!table[slot].told) {
				slots[count] = slot;
				watched[count++] = (struct pollfd){table[slot].connection, 0, 0}; /* POLLHUP comes unasked */
			} else {
				tell(&table[slot]);
			}
		}
		if (leaving && !busy)
			return 0;
		if (poll(watched, (nfds_t)count, busy ? 200 : 1000) > 0) {
			for (int index = 1; index < count; index++)
				if (watched[index].revents & (POLLHUP | POLLERR))
					tell(&table[slots[index]]);
			if (watched[0].revents & POLLIN) {
				int connection = accept4(door, NULL, NULL, SOCK_CLOEXEC);
				if (connection >= 0)
					begin(connection, program);
			}
		}
		reap();
	}
}

int main(int count, char **words) {
	if (count >= 4 && strcmp(words[1], "serve") == 0)
		return serve(words[2], words + 3);
	if (count >= 3 && strcmp(words[1], "connect") == 0)
		return connect_to(words[2], words + 3);
	fprintf(stderr, "usage: mcpmesh-stdio serve SOCKET PROGRAM ARGS… | connect SOCKET NAMES…\n");
	return 2;
}
