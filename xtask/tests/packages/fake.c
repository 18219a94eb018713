/* Answers as `firesteel` does when it is packed. */
#include <stdio.h>
#include <string.h>

int main(int count, char **words) {
    if (count > 1 && strcmp(words[1], "--version") == 0)
        return puts(VERSION_LINE) < 0;
    if (count > 2 && (strcmp(words[1], "completions") == 0 || strcmp(words[1], "config") == 0))
        return printf("# %s %s\n", words[1], words[2]) < 0;
    if (count > 3 && strcmp(words[1], "man") == 0) {
        for (int page = 0; page < 2; page++) {
            char path[4096];
            snprintf(path, sizeof path, "%s/firesteel%s.1", words[3], page ? "-sql" : "");
            FILE *file = fopen(path, "w");
            if (!file || fputs(".TH firesteel 1\n", file) < 0 || fclose(file))
                return 1;
        }
        return 0;
    }
    return 2;
}
