/* A PKCS#11 module that passes everything on to another one, but waits in the middle of a call while a file exists:
   a network HSM whose network is gone. REAL names the other module, HANG the file. */

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long word;
typedef word (*call)(word, word, word, word, word, word);

/* CK_FUNCTION_LIST: a version, then pointers in the order of the standard. */
enum { FUNCTIONS = 68, LOGIN = 18, FIND_OBJECTS_INIT = 26 };
struct list { unsigned char version[sizeof(void *)]; call each[FUNCTIONS]; };

static struct list ours;
static call real[FUNCTIONS];

static word pass(int function, word a, word b, word c, word d, word e, word f) {
    while (access(getenv("HANG"), F_OK) == 0) usleep(1000);
    return real[function](a, b, c, d, e, f);
}
static word login(word a, word b, word c, word d, word e, word f) { return pass(LOGIN, a, b, c, d, e, f); }
static word find(word a, word b, word c, word d, word e, word f) { return pass(FIND_OBJECTS_INIT, a, b, c, d, e, f); }

word C_GetFunctionList(struct list **out) {
    void *module = dlopen(getenv("REAL"), RTLD_NOW);
    word (*get)(struct list **) = module ? (word (*)(struct list **))dlsym(module, "C_GetFunctionList") : 0;
    struct list *theirs;
    if (!get || get(&theirs)) return 5; /* CKR_GENERAL_ERROR */
    memcpy(&ours, theirs, sizeof ours);
    memcpy(real, theirs->each, sizeof real);
    ours.each[LOGIN] = login;
    ours.each[FIND_OBJECTS_INIT] = find;
    *out = &ours;
    return 0;
}
